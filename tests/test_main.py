"""`python -m audiocraft`: commands, their help, and mistakes in a sentence."""

import pytest
import torch

from audiocraft.__main__ import COMMANDS, main
from audiocraft.utils.packages import read_package


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert name in capsys.readouterr().out or name == "manifest"


def test_an_unknown_command_lists_those_that_are_known(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fly"])
    assert stop.value.code == 2
    assert "export" in capsys.readouterr().out


def test_an_experiment_is_exported_with_its_tokenizer(tmp_path, capsys):
    weights = {"emb.0.weight": torch.arange(4.0)}
    text = "compression_model_checkpoint: //bundled/mel_rvq_16khz"
    torch.save({"best_state": {"model": weights}, "xp.cfg": text}, tmp_path / "checkpoint.th")
    main(["export", str(tmp_path / "checkpoint.th"), str(tmp_path / "out")])
    package = read_package(tmp_path / "out" / "state_dict.bin")
    torch.testing.assert_close(package.state, weights)
    reference = read_package(tmp_path / "out" / "compression_state_dict.bin")
    assert reference.pretrained == "//bundled/mel_rvq_16khz"


def test_an_experiment_that_is_not_there_is_told_without_a_traceback():
    with pytest.raises(SystemExit, match=r"error: .*Train that experiment first"):
        main(["export", "ffffffff", "out"])
