"""The program's door: Ctrl-C before the first command has begun ends it without a word and without a trace."""

import signal


def main() -> None:
    """Load and run `pipeboard`. Loading takes up to a second, in which there is nothing to undo."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipeboard_assets.cli import main as pipeboard

    pipeboard()


if __name__ == "__main__":
    main()
