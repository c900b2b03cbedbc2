"""`python -m dip_pipeline` is the `dip` command."""

from dip_pipeline.cli.main import main

if __name__ == "__main__":
    main()
