"""Model card of the bundled tokenizer: its table matches the measured results."""

import json

from audiocraft.environment import bundled_dir

FOLDER = bundled_dir() / "mel_rvq_16khz"
CARD = bundled_dir().parent / "model_cards" / "MEL_RVQ_16KHZ_MODEL_CARD.md"


def test_card_contains_every_measured_row():
    card = CARD.read_text()
    report = json.loads((FOLDER / "measured.json").read_text())
    for manifest, rows in report["measured"].items():
        assert f"`{manifest}`" in card
        for name, row in rows.items():
            line = (
                f"| {name} | {row['log_mel_distance']:.3f} | {row['chroma_agreement']:.3f} "
                f"| {row['onset_agreement']:.3f} | {row['level_error_db']:.2f} |"
            )
            assert line in card


def test_each_codebook_improves_quality_over_random_codes():
    report = json.loads((FOLDER / "measured.json").read_text())
    best_first = ["not quantized", "4 codebooks", "3 codebooks", "2 codebooks", "1 codebooks"]
    for rows in report["measured"].values():
        distances = [rows[name]["log_mel_distance"] for name in [*best_first, "random codebooks"]]
        assert distances == sorted(distances)
