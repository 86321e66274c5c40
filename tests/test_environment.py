"""Environment: folders and cluster settings of a team."""

from pathlib import Path

import pytest

from audiocraft import environment as module
from audiocraft.environment import AudioCraftEnvironment, read_environment
from audiocraft.errors import ConfigError

TEAM = """
default:
  dora_dir: ./runs
  reference_dir: /shared/reference
  partitions: {global: all, team: ours}
  slurm_exclude: [node1, node2]
  dataset_mappers: {"^/here/": /there/}
big:
  dora_dir: $BIG/runs
"""


@pytest.fixture
def team_file(tmp_path):
    path = tmp_path / "team.yaml"
    path.write_text(TEAM)
    return path


@pytest.fixture
def on_team(monkeypatch, team_file):
    settings = read_environment({"AUDIOCRAFT_CONFIG": str(team_file)})
    monkeypatch.setattr(module, "environment", lambda: settings)


def test_experiments_are_in_the_checkout_by_default():
    folder = read_environment({}).dora_dir
    assert folder == Path(module.__file__).parents[1] / "outputs"


def test_no_default_folder_is_temporary():
    settings = read_environment({})
    kept = (module.ROOT, Path.home())
    for folder in (settings.dora_dir, settings.reference_dir, settings.cache_dir):
        assert folder.is_absolute()
        assert any(folder.is_relative_to(place) for place in kept)


@pytest.mark.parametrize("name", ["dora_dir", "reference_dir", "cache_dir"])
def test_variables_take_precedence_over_the_file(name, team_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variables = {"AUDIOCRAFT_CONFIG": str(team_file), f"AUDIOCRAFT_{name.upper()}": "mine"}
    assert getattr(read_environment(variables), name) == tmp_path / "mine"


def test_a_cluster_has_its_own_section(team_file, monkeypatch):
    monkeypatch.setenv("BIG", "/big")
    variables = {"AUDIOCRAFT_CONFIG": str(team_file), "AUDIOCRAFT_CLUSTER": "big"}
    assert read_environment(variables).dora_dir == Path("/big/runs")


def test_a_detected_cluster_without_a_section_uses_the_default(team_file, monkeypatch):
    monkeypatch.setattr(module, "_guess_cluster", lambda: "slurm")
    settings = read_environment({"AUDIOCRAFT_CONFIG": str(team_file)})
    assert settings.cluster == "slurm"
    assert settings.reference_dir == Path("/shared/reference")


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({"AUDIOCRAFT_TEAM": "absent"}, "choose one of: default"),
        ({"AUDIOCRAFT_CLUSTER": "moon"}, "Choose one of: default"),
        ({"AUDIOCRAFT_CONFIG": "/no/such.yaml"}, "AUDIOCRAFT_CONFIG is /no/such.yaml"),
    ],
)
def test_an_unknown_name_is_refused_listing_the_supported_ones(variables, remedy):
    with pytest.raises(ConfigError, match=remedy):
        read_environment(variables)


def test_a_file_without_sections_is_refused(tmp_path):
    file = tmp_path / "team.yaml"
    file.write_text("dora_dir: ./outputs")
    with pytest.raises(ConfigError, match="must map clusters"):
        read_environment({"AUDIOCRAFT_CONFIG": str(file)})


def test_an_installed_package_writes_to_the_current_directory(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "ROOT", module.PACKAGE)
    monkeypatch.chdir(tmp_path)
    assert read_environment({}).dora_dir == tmp_path / "outputs"


def test_grids_are_looked_up_in_the_wheel_where_no_folder_has_them():
    assert module.grid_package("grids") == "grids"
    assert module.grid_package("no_such_grids") == "audiocraft.no_such_grids"


def test_sources_are_found_in_the_current_directory_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    resolve = AudioCraftEnvironment.resolve_source_path
    assert resolve("egs/example/train") == module.ROOT / "egs/example/train"
    assert resolve("egs/nowhere") == Path("egs/nowhere")
    (tmp_path / "egs/example/train").mkdir(parents=True)
    assert resolve("egs/example/train") == Path("egs/example/train")


def test_a_configuration_folder_contains_its_team_files(monkeypatch, tmp_path):
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams" / "ours.yaml").write_text(TEAM)
    monkeypatch.setenv("AUDIOCRAFT_CONFIG", str(tmp_path))
    variables = {"AUDIOCRAFT_CONFIG": str(tmp_path), "AUDIOCRAFT_TEAM": "ours"}
    assert module.config_dir() == tmp_path
    assert read_environment(variables).slurm_exclude == ("node1", "node2")


@pytest.mark.usefixtures("on_team")
def test_reference_paths_are_inside_the_reference_folder():
    resolve = AudioCraftEnvironment.resolve_reference_path
    assert resolve("//reference/clap/model.pt") == Path("/shared/reference/clap/model.pt")
    assert resolve("models/mine.pt") == Path("models/mine.pt")


@pytest.mark.usefixtures("on_team")
def test_slurm_settings_are_comma_separated():
    assert AudioCraftEnvironment.get_slurm_partitions() == "ours,all"
    assert AudioCraftEnvironment.get_slurm_partitions(["global"]) == "all"
    assert AudioCraftEnvironment.get_slurm_exclude() == "node1,node2"


def test_without_a_team_slurm_settings_are_defaults():
    assert AudioCraftEnvironment.get_slurm_partitions() is None
    assert AudioCraftEnvironment.get_slurm_exclude() is None


@pytest.mark.usefixtures("on_team")
def test_paths_of_manifests_are_mapped():
    assert AudioCraftEnvironment.apply_dataset_mappers("/here/song.wav") == "/there/song.wav"
    assert AudioCraftEnvironment.apply_dataset_mappers("/else/here/a.wav") == "/else/here/a.wav"
