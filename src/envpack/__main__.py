"""``python -m envpack`` and the ``envpack`` command."""


def main() -> None:
    from envpack.cli.app import run

    run()


if __name__ == "__main__":
    main()
