"""`audiocraft demo`, also `python -m demos.musicgen_style_app`: a web page that generates music."""

import argparse
import os
import signal
import socket
import sys
import tempfile
import typing as tp
from pathlib import Path

from audiocraft.cli.generate import MODEL_HELP, default_model, load_generator
from audiocraft.cli.parser import CommandParser
from audiocraft.errors import AudiocraftError, ConfigError

from .clips import MAX_BYTES
from .handlers import Handlers
from .page import build_page
from .sessions import GenerationService, SessionStore
from .theme import CSS, THEME

LOCAL = ("127.0.0.1", "localhost")


def get_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("demo", "Serve a web page that generates music.")
    parser.add_argument(
        "--listen", default="127.0.0.1", help="address; 0.0.0.0 admits other machines"
    )
    parser.add_argument("--server-port", type=int, help="port [default: first free one from 7860]")
    parser.add_argument("--username", help="required to open the page; with --password")
    parser.add_argument("--password", help="of --username")
    parser.add_argument("--inbrowser", action="store_true", help="open the page in a browser")
    parser.add_argument(
        "--share", action="store_true", help="create a public address for 72 hours through Gradio"
    )
    parser.add_argument("--model", help=MODEL_HELP)
    return parser


def check_and_serve(args: argparse.Namespace) -> None:
    """Check the options, then serve the page.

    Raises:
        ConfigError: The options contradict each other, or the port is not available.
        AudiocraftError: The model cannot be loaded.
    """
    auth = None
    if args.username is not None or args.password is not None:
        if not args.username or not args.password:
            raise ConfigError("Give --username and --password together, neither of them empty.")
        auth = (args.username, args.password)
    elif args.share or args.listen not in LOCAL:
        print("Anyone who can reach this page can use it. To prevent it: --username, --password.")
    if not 0 <= (args.server_port or 0) < 2**16:
        raise ConfigError(f"--server-port must be from 1 to {2**16 - 1} but is {args.server_port}.")
    try:  # before the model is loaded
        with socket.create_server((args.listen, args.server_port or 0)):
            pass
    except OSError as error:
        raise ConfigError(
            f"The page cannot be served at {args.listen}, port {args.server_port}: {error}. Choose "
            "another --server-port or --listen."
        ) from None
    serve(args, auth)


def serve(args: argparse.Namespace, auth: tuple[str, str] | None) -> None:
    """Load the model, then serve the page until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: There is no free port.
    """
    generator = load_generator(args.model or default_model(), None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder is removed
    with tempfile.TemporaryDirectory(prefix="audiocraft_page_", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        uploads, results = folder / "files", folder / "sessions"
        uploads.mkdir()
        results.mkdir()
        os.environ |= {"GRADIO_TEMP_DIR": str(uploads), "GRADIO_ANALYTICS_ENABLED": "False"}
        handlers = Handlers(GenerationService(generator), SessionStore(results), uploads)
        page = build_page(handlers)
        try:
            page.launch(
                server_name=args.listen,
                server_port=args.server_port,
                auth=auth,
                inbrowser=args.inbrowser,
                share=args.share,
                max_file_size=MAX_BYTES,
                theme=THEME,
                css=CSS,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                mcp_server=False,
            )
        except OSError as error:
            raise ConfigError(
                f"The page cannot be served: {error} Choose another --server-port."
            ) from None
        finally:
            page.close(verbose=False)


def main(argv: tp.Sequence[str]) -> int:
    """Run the command; return the exit status."""
    try:
        check_and_serve(get_parser().parse_args(argv))
    except AudiocraftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
