"""Settings: file, variables, and refusals by name."""

import pytest

from mesh.config import EngineSettings, Settings, SettingsError, load_settings


def settings(tmp_path, text="", **variables):
    (tmp_path / "tiation.yaml").write_text(text)
    return load_settings(tmp_path, variables)


def test_without_a_file_every_setting_has_its_default(tmp_path):
    assert load_settings(tmp_path, {}).gateway.port == 8443


def test_the_file_sets_a_value(tmp_path):
    assert settings(tmp_path, "engine: {max_batch: 8}").engine.max_batch == 8


def test_a_variable_overrides_the_file(tmp_path):
    assert settings(tmp_path, "engine: {max_batch: 8}", TIATION_ENGINE__MAX_BATCH="16").engine.max_batch == 16


def test_addresses_of_services_come_from_variables(tmp_path):
    found = settings(tmp_path, TIATION_SERVICES__ENGINE__ADDRESS="127.0.0.1:2000")
    assert found.services["engine"].address == "127.0.0.1:2000"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("engin: {}", "did you mean `engine`"),
        ("engine: {max_bach: 3}", "did you mean `engine.max_batch`"),
        ("engine: {max_batch: many}", "max_batch"),
        ("- a\n- b", "name: value"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path, text, named):
    with pytest.raises(SettingsError, match=named):
        settings(tmp_path, text)


def test_an_unknown_variable_is_refused_by_name(tmp_path):
    with pytest.raises(SettingsError, match=r"gateway\.prot"):
        settings(tmp_path, TIATION_GATEWAY__PROT="1")


def test_the_password_of_the_cache_is_not_shown():
    settings = Settings(engine=EngineSettings(cache_redis="redis://:s3cret@cache:6379/0"))
    assert "s3cret" not in repr(settings)
    assert "cache_bytes=67108864" in repr(settings)
