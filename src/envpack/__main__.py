"""``python -m envpack`` and the ``envpack`` command."""

import sys


def main() -> None:
    try:
        from envpack.runtime.process import begin

        begin()  # importing the command line makes more objects than most commands do
        from envpack.cli.app import run

        run()
    except KeyboardInterrupt:  # before a command began, or after it was done
        sys.exit(130)


if __name__ == "__main__":
    main()
