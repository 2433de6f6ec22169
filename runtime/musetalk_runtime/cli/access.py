"""The options of ``musetalk-edge serve`` that say who may use it."""

import argparse
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from musetalk_runtime.core.errors import InvalidArgument

if TYPE_CHECKING:
    from musetalk_runtime.service.security.access import Access


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who may use it")
    group.add_argument(
        "--tokens", type=Path, metavar="FILE", help="let in who has a token of FILE, see 'musetalk-edge token --help'"
    )
    group.add_argument(
        "--token-key",
        type=Path,
        metavar="FILE",
        help="let in who has a token that is signed with the key in FILE, as 'musetalk-edge fleet' signs them",
    )
    group.add_argument(
        "--insecure", action="store_true", help="without tokens, listen on other addresses than this machine's own"
    )
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that the service goes by, besides localhost and any IP address; may be given several times",
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of https://NAME use it too (CORS); may be given several times",
    )
    group.add_argument(
        "--root-path", default="", metavar="/PATH", help="what a proxy puts before every path, see examples/nginx.conf"
    )
    group.add_argument(
        "--trust-proxy",
        type=_network,
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a proxy, or a network of them, whose X-Forwarded-Host is believed; others' is not",
    )


def read_access(args: argparse.Namespace) -> "Access":
    """What the options say; raises InvalidArgument or InputNotFound."""
    from musetalk_runtime.service.security.access import Access, is_loopback
    from musetalk_runtime.service.security.signed_tokens import SignedTokens, read_secret
    from musetalk_runtime.service.security.tokens import Tokens

    if args.tokens and args.token_key:
        raise InvalidArgument("--tokens and --token-key: a service takes the tokens of one of them")
    tokens: Tokens | SignedTokens | None = None
    if args.token_key:
        tokens = SignedTokens(read_secret(args.token_key))
    elif args.tokens:
        tokens = Tokens(args.tokens)
    if not (tokens or args.insecure or is_loopback(args.host)):
        raise InvalidArgument(
            f"--host {args.host} lets everybody in who reaches it: give --tokens FILE, or --insecure to have it so"
        )
    return Access(
        tokens,
        frozenset(host.lower() for host in args.allow_host),
        tuple(args.allow_origin),
        args.root_path.rstrip("/"),
        tuple(args.trust_proxy),
    )


def _network(text: str) -> "ipaddress.IPv4Network | ipaddress.IPv6Network":
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
