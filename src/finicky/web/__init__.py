"""What every local page of ours shares: who may call, where it listens, what it may be sent."""

from finicky.web.guard import LOOPBACK, OPEN_PATH, WRITE_HEADER, App, Guard, Keys, cookie_name
from finicky.web.listen import Address, bound, check_address, run_app

__all__ = [
    "LOOPBACK",
    "OPEN_PATH",
    "WRITE_HEADER",
    "Address",
    "App",
    "Guard",
    "Keys",
    "bound",
    "check_address",
    "cookie_name",
    "run_app",
]
