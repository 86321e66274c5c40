"""`python -m demos.musicgen_style_app`: a web page that makes music."""

import argparse
import os
import signal
import socket
import sys
import tempfile
import typing as tp
from pathlib import Path

from audiocraft.cli.generate import BUNDLED, RELEASED, default_model, load_generator
from audiocraft.errors import AudiocraftError, ConfigError

from .clips import MAX_BYTES
from .handlers import Handlers
from .page import build_page
from .sessions import GenerationService, SessionStore
from .theme import CSS, THEME

LOCAL = ("127.0.0.1", "localhost")


def get_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser("python -m demos.musicgen_style_app", description=__doc__)
    parser.add_argument(
        "--listen",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other machines in [127.0.0.1]",
    )
    parser.add_argument("--server_port", type=int, help="port [the first free one from 7860]")
    parser.add_argument("--username", help="asked for at the door, together with --password")
    parser.add_argument("--password", help="of --username")
    parser.add_argument("--inbrowser", action="store_true", help="open the page in a browser")
    parser.add_argument(
        "--share", action="store_true", help="a public address for 72 hours, by way of Gradio's"
    )
    parser.add_argument(
        "--model",
        help=f"hub id, //sig/SIG, //bundled/NAME or a folder [{RELEASED} on a GPU, else {BUNDLED}]",
    )
    return parser


def check_and_serve(args: argparse.Namespace) -> None:
    """Serve the page, if it can be.

    Raises:
        ConfigError: The flags contradict each other, or the port is taken.
        AudiocraftError: The model cannot be loaded.
    """
    auth = None
    if args.username is not None or args.password is not None:
        if not args.username or not args.password:
            raise ConfigError("Give --username and --password together, neither of them empty.")
        auth = (args.username, args.password)
    elif args.share or args.listen not in LOCAL:
        print("Whoever can reach this page can use it: see --username and --password.")
    if not 0 <= (args.server_port or 0) < 2**16:
        raise ConfigError(f"--server_port is {args.server_port}. Ports go from 1 to {2**16 - 1}.")
    try:  # told now, not after the model has been loaded
        with socket.create_server((args.listen, args.server_port or 0)):
            pass
    except OSError as error:
        raise ConfigError(
            f"No page can be served at {args.listen}, port {args.server_port}: {error}. Choose "
            "another --server_port or --listen."
        ) from None
    serve(args, auth)


def serve(args: argparse.Namespace, auth: tuple[str, str] | None) -> None:
    """Load the model, then serve the page until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: Gradio finds no free port.
    """
    sample_generator = load_generator(args.model or default_model(), None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder is removed
    with tempfile.TemporaryDirectory(prefix="audiocraft_page_", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        uploads, samples = folder / "files", folder / "sessions"
        uploads.mkdir()
        samples.mkdir()
        os.environ |= {"GRADIO_TEMP_DIR": str(uploads), "GRADIO_ANALYTICS_ENABLED": "False"}
        page = build_page(
            Handlers(GenerationService(sample_generator), SessionStore(samples), uploads)
        )
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
            raise ConfigError(f"No page can be served: {error} Try --server_port.") from None
        finally:
            page.close(verbose=False)


def main(argv: tp.Sequence[str]) -> int:
    """The command; a mistake is told in one sentence."""
    try:
        check_and_serve(get_parser().parse_args(argv))
    except AudiocraftError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
