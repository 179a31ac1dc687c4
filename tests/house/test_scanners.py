"""The rules see what they forbid: each finder on a line that breaks its rule, and on one that does not."""

import pytest

from tests.house import sources
from tests.house.sources import module_of


@pytest.mark.parametrize(
    "line",
    [
        'logger.info(f"read {n}")',
        'logger.info("read %s", f"{n}")',
        'logger.warning("read {}".format(n))',
        'self._log.error("read " + n)',
        "context.log.info(message)",
        'logging.getLogger(__name__).debug(f"{n}")',
        'logger.log(level, f"read {n}")',
    ],
)
def test_a_log_message_that_is_put_together_is_seen(line: str) -> None:
    assert sources.built_log_messages(module_of(line)) == [1]


@pytest.mark.parametrize(
    "line", ['logger.info("read %d", n)', 'logger.log(level, "read %d", n)', "math.log(n)", 'console.error(f"{n}")']
)
def test_a_constant_event_and_what_is_no_log_are_left_alone(line: str) -> None:
    assert sources.built_log_messages(module_of(line)) == []


@pytest.mark.parametrize(
    "caught", ["", "Exception", "BaseException", "(ValueError, Exception)", "builtins.Exception as error"]
)
def test_catching_everything_is_seen(caught: str) -> None:
    assert sources.broad_excepts(module_of(f"try:\n  f()\nexcept {caught}:\n  pass")) == [3]


@pytest.mark.parametrize(
    "handler", ["except (OSError, x.OurException):\n  pass", "except BaseException:\n  g()\n  raise"]
)
def test_catching_what_is_expected_and_cleaning_up_are_left_alone(handler: str) -> None:
    assert sources.broad_excepts(module_of(f"try:\n  f()\n{handler}")) == []


@pytest.mark.parametrize("line", ["os.environ['A']", "os.getenv('A')", "from os import environ", "x = {**os.environ}"])
def test_the_environment_is_seen(line: str) -> None:
    assert sources.environment_uses(module_of(line)) == [1]


def test_what_is_only_called_environment_is_left_alone() -> None:
    assert sources.environment_uses(module_of("jinja.environ\nfrom x import environ\nos.path")) == []


def test_print_is_seen_and_a_method_of_that_name_left_alone() -> None:
    assert sources.prints(module_of("print(1)\nconsole.print(1)\n_fingerprint(1)")) == [1]


def test_settings_without_values_are_seen_and_given_ones_left_alone() -> None:
    assert sources.settings_reads(module_of("Settings()\nSettings(readers=1)")) == [1]
