"""Composer: key, range and timing of the notes, and labels."""

import dataclasses

import mido
import pytest

from dataset.composer import STYLES, TUNES_BY_TITLE, compose, tunes_of
from dataset.composer.arranger import plan_form
from dataset.composer.instruments import DRUMS, INSTRUMENTS
from dataset.composer.labels import describe_clip, instruments_between, join_names, tempo_word
from dataset.composer.score import to_midi
from dataset.composer.style import Line, parse_pattern
from dataset.composer.theory import SCALES, Key, parse_chord, voice
from dataset.composer.tunes import parse_melody

C_MAJOR = Key(0, "major")
PIECES = [(style, seed) for style in STYLES for seed in (0, 1, 2)]
ARRANGEMENTS = [(style, tune) for tune in TUNES_BY_TITLE.values() for style in tune.styles]


@pytest.fixture(scope="module")
def scores():
    pieces = [compose(STYLES[style], seed) for style, seed in PIECES]
    return pieces + [compose(STYLES[style], 3, tune=tune) for style, tune in ARRANGEMENTS]


@pytest.mark.parametrize(("style", "seed"), PIECES)
def test_scores_are_reproducible_and_depend_on_the_seed(style, seed):
    assert compose(STYLES[style], seed) == compose(STYLES[style], seed)
    assert compose(STYLES[style], seed).parts != compose(STYLES[style], seed + 100).parts


def test_earlier_parts_do_not_depend_on_later_ones():
    style = STYLES["rock"]
    without_drums = dataclasses.replace(style, lines=style.lines[:-1])

    assert compose(style, 5).parts[0] == compose(without_drums, 5).parts[0]


def test_pitches_are_in_the_scale_or_the_current_chord(scores):
    for score in scores:
        for part in score.parts:
            for note in part.notes if not part.instrument.is_drums else ():
                nearby = (note.start - 0.12, note.start, note.start + 0.12)  # timing is humanized
                chords = [score.chord_at(max(0, beat)).pitch_classes for beat in nearby]
                allowed = score.key.pitch_classes.union(*chords)
                assert note.pitch % 12 in allowed, (score.title, part.role, note)


def test_every_note_is_in_the_range_of_its_instrument(scores):
    for score in scores:
        for part in score.parts:
            for note in part.notes:
                if part.instrument.is_drums:
                    assert note.pitch in DRUMS.values()
                else:
                    low, high = part.instrument.low, part.instrument.high
                    assert low <= note.pitch <= high, (score.title, part.role, note)
                assert 1 <= note.velocity <= 127
                assert note.length > 0


def test_tempo_is_in_the_range_of_the_style():
    for style in STYLES.values():
        low, high = style.bpm
        assert all(low <= compose(style, seed).bpm <= high for seed in range(3))


def test_a_repeated_section_has_the_same_notes():
    score = compose(STYLES["techno"], 4, seconds=90)  # techno is not humanized
    sections = plan_form(score.seconds_per_bar, seconds=90)
    same = [section for section in sections if section.label == "A"][:2]
    starts = [section.first_bar * score.beats_per_bar for section in same]
    length = same[0].num_bars * score.beats_per_bar

    for part in score.parts:
        first, second = (
            [
                (round(n.start - start, 6), n.pitch)
                for n in part.notes
                if 0 <= n.start - start < length
            ]
            for start in starts
        )
        assert first == second


def test_a_traditional_tune_becomes_the_melody():
    tune = TUNES_BY_TITLE["Korobeiniki"]
    score = compose(STYLES["techno"], 3, tune=tune)
    [lead] = [part for part in score.parts if part.role == "lead"]
    start = score.first_full_bar * score.beats_per_bar
    played = [n.pitch for n in lead.notes if start <= n.start < start + tune.num_bars * 4]

    assert [(pitch - score.key.tonic) % 12 for pitch in played] == [
        note.interval % 12 for note in tune.notes()
    ]


@pytest.mark.parametrize("tune", TUNES_BY_TITLE.values(), ids=lambda tune: tune.title)
def test_tunes_fill_their_bars(tune):
    for bar in tune.melody.split("|"):
        beats = sum(float(word.partition(":")[2] or 1) for word in bar.split())
        assert beats == tune.beats_per_bar, bar
    assert len(tune.melody.split("|")) == tune.num_bars
    assert all(STYLES[style].beats_per_bar == tune.beats_per_bar for style in tune.styles)


def test_a_tune_of_another_style_is_refused():
    with pytest.raises(ValueError, match="does not suit the style 'waltz'"):
        compose(STYLES["waltz"], 1, tune=TUNES_BY_TITLE["Canon"])


def test_tunes_are_found_by_style():
    assert TUNES_BY_TITLE["Greensleeves"] in tunes_of("waltz")
    assert all(tune.beats_per_bar == 3 for tune in tunes_of("waltz"))


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
def test_patterns_fill_bars_and_use_defined_sounds(style):
    for line in style.lines:
        assert all(name in INSTRUMENTS for name in line.instruments)
        for pattern in line.patterns:
            texts = pattern.values() if isinstance(pattern, dict) else [pattern]
            for text in texts:
                assert parse_pattern(text, line.steps_per_beat)[1] % style.beats_per_bar == 0, text
            assert not isinstance(pattern, dict) or set(pattern) <= set(DRUMS)
    for mode, progressions in style.progressions.items():
        assert mode in SCALES
        assert len(progressions) >= 2


def test_instrument_labels_match_the_notes():
    score = compose(STYLES["jazz"], 2)
    start = score.first_full_bar * score.beats_per_bar
    solo = next(part.instrument.name for part in score.parts if part.role == "solo")

    assert solo not in instruments_between(score, 0, start - 1)
    assert solo in instruments_between(score, start, start + 16)
    assert instruments_between(score, 0, 0) == []


def test_a_description_contains_the_labels():
    style, score = STYLES["strings"], compose(STYLES["strings"], 1)
    sentences = {describe_clip(style, score, ["violin", "harp"], str(i)) for i in range(30)}

    assert len(sentences) > 5
    for sentence in sentences:
        assert "violin and harp" in sentence.lower()
        assert any(mood in sentence.lower() for mood in score.moods)
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_tempo_words_and_names_are_correct():
    assert tempo_word(60) == "slow"
    assert tempo_word(170) == "fast"
    assert join_names(["piano"]) == "solo piano"
    assert join_names(["violin", "cello", "harp"]) == "violin, cello and harp"


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
def test_the_midi_file_holds_every_note_at_the_right_tempo(style, tmp_path):
    score = compose(style, 6)
    to_midi(score).save(tmp_path / "piece.mid")
    midi = mido.MidiFile(tmp_path / "piece.mid")
    notes = [message for message in midi if message.type == "note_on"]
    tempo = next(message.tempo for message in midi if message.type == "set_tempo")

    assert len(notes) == sum(len(part.notes) for part in score.parts)
    assert mido.tempo2bpm(tempo) == pytest.approx(score.bpm, abs=0.01)
    assert midi.length == pytest.approx(score.num_bars * score.seconds_per_bar, rel=0.15)


def test_chords_are_read_from_roman_numerals():
    assert parse_chord("V7", C_MAJOR).pitch_classes == {7, 11, 2, 5}
    assert parse_chord("bVII", C_MAJOR).pitch_classes == {10, 2, 5}
    assert parse_chord("ii7b5", C_MAJOR).pitch_classes == {2, 5, 8, 0}
    for wrong in ("VIII", "IIII", "H", "I13"):
        with pytest.raises(ValueError, match="is no chord"):
            parse_chord(wrong, C_MAJOR)


def test_voice_leading_uses_small_intervals():
    first = voice(parse_chord("I", C_MAJOR), 48, 72, near=60)
    second = voice(parse_chord("IV", C_MAJOR), 48, 72, near=sum(first) / 3)

    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) <= 4
    with pytest.raises(ValueError, match="widen the range"):
        voice(parse_chord("I", C_MAJOR), 60, 62, near=60)


def test_patterns_and_tunes_are_read_as_written():
    hits, length = parse_pattern("x-.o|X...", 4)

    assert [(hit.start, hit.length, hit.sign) for hit in hits] == [
        (0, 0.5, "x"),
        (0.75, 0.25, "o"),
        (1, 0.25, "X"),
    ]
    assert length == 2
    assert [note.interval for note in parse_melody("1 #7,:2 r 3'", "minor")] == [0, -1, 15]
    with pytest.raises(ValueError, match="no note of a tune"):
        parse_melody("1 9", "major")
    with pytest.raises(ValueError, match="kind of line"):
        Line(role="solo", kind="yodel", instruments=("piano",))


def test_keys_have_their_conventional_spelling():
    assert Key(1, "minor").name == "C# minor"
    assert Key(1, "mixolydian").name == "Db major"
    assert Key(2, "dorian").name == "D minor"
