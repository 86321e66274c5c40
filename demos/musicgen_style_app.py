"""`python -m demos.musicgen_style_app`: a web page that makes music."""

import argparse
import os
import signal
import sys
import tempfile
import typing as tp
from pathlib import Path

from audiocraft.errors import AudiocraftError, ConfigError
from audiocraft.studio.command import BUNDLED, RELEASED, default_model, load_maker

from .clips import MAX_BYTES
from .handlers import Handlers
from .page import CSS, THEME, build_page
from .sessions import Sessions, Studio


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


def serve(args: argparse.Namespace) -> None:
    """Load the model, then serve the page until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: The flags contradict each other, or the port is taken.
    """
    if (args.username is None) != (args.password is None) or args.username == "":
        raise ConfigError("Give --username and --password together, or none of them.")
    auth = None if args.username is None else (args.username, args.password)
    if args.share and auth is None:
        print("Anybody who learns the public address can use this page: see --username.")
    maker = load_maker(args.model or default_model(), None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder is removed
    with tempfile.TemporaryDirectory(prefix="audiocraft_page_", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        uploads, pieces = folder / "files", folder / "sessions"
        uploads.mkdir()
        pieces.mkdir()
        os.environ |= {"GRADIO_TEMP_DIR": str(uploads), "GRADIO_ANALYTICS_ENABLED": "False"}
        page = build_page(Handlers(Studio(maker), Sessions(pieces), uploads))
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
                f"No page at {args.listen}:{args.server_port or '7860 and above'}: {error}. Choose "
                "another --server_port or --listen."
            ) from None
        finally:
            page.close(verbose=False)


def main(argv: tp.Sequence[str]) -> int:
    """The command; a mistake is told in one sentence."""
    try:
        serve(get_parser().parse_args(argv))
    except AudiocraftError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
