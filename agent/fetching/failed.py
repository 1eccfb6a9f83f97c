"""Why a file was not fetched."""


class Failed(Exception):
    """`reason`: a word in kebab-case, which is published; the message is for people.

    Words in use: `bad-url` `dns-failure` `refused` `unreachable` `timeout` `too-slow` `tls-failure` `bad-answer` `bad-redirect`
    `http-NNN` `truncated` `wrong-size` `too-large` `wrong-hash` `disk-full` `disk-failed` `busy`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
