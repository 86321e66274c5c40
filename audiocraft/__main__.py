"""`python -m audiocraft COMMAND …`: the same as the console command `audiocraft`."""

from .cli.main import main

if __name__ == "__main__":
    main()
