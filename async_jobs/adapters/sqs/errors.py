"""Where botocore's exceptions become ours: once, here, with the cause chained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    EndpointProviderError,
    InvalidConfigError,
    InvalidEndpointConfigurationError,
    InvalidProxiesConfigError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    UnknownEndpointError,
)
from botocore.parsers import ResponseParserError

from async_jobs.domain.errors import ConfigurationError, Unavailable

NO_REGION: Final = "no AWS region is configured: set AWS_REGION (or AWS_DEFAULT_REGION)"
TOLD_CHARS_MAX: Final = 300
EMPTY_BYTES_MAX: Final = 64

_NO_QUEUE: Final = frozenset(
    {
        "NonExistentQueue",
        "QueueDoesNotExist",
        "InvalidAddress",  # the URL is none of a queue
    }
)
_NO_ACCESS: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "InvalidSecurity",
        "KmsAccessDenied",
        "KmsDisabled",
        "KmsInvalidKeyUsage",
        "KmsInvalidState",
        "KmsNotFound",
        "KmsOptInRequired",
        "OptInRequired",
        "UnsupportedOperation",
    }
)
# While keys are rotated, the old ones may be refused before the new ones are here, and new ones
# before all of AWS knows them. A worker that waits a little outlives that.
_CREDENTIALS: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
# Some of these come with the status 403.
_TOO_MUCH: Final = re.compile(
    r".*(Throttl|TooManyRequests|SlowDown|OverLimit|LimitExceeded|RequestTimeout|Bandwidth)",
    re.IGNORECASE,
)
# Whatever a gateway between here and AWS calls it.
_EXPIRED: Final = re.compile(r".*Expired", re.IGNORECASE)
_NO_LONGER_VALID: Final = frozenset({"ReceiptHandleIsInvalid", "MessageNotInflight"})
_NOT_SET_UP: Final = (
    ConfigNotFound,
    ConfigParseError,
    EndpointProviderError,
    InvalidConfigError,
    InvalidEndpointConfigurationError,
    InvalidProxiesConfigError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    UnknownEndpointError,
)


class RefusedError(Unavailable):
    """SQS answered that the request is wrong; one of a batch's entries may be the reason."""


@contextmanager
def translated(queue: str) -> Iterator[None]:
    """Raise `Unavailable` or `ConfigurationError` for what a request about `queue` raises.

    Credentials that were refused are a passing failure: see `_CREDENTIALS`.
    """
    try:
        yield
    except ClientError as error:
        raise _of_answer(queue, error) from _cause(error)
    except NoRegionError as error:
        raise ConfigurationError(NO_REGION) from error
    except _NOT_SET_UP as error:
        raise ConfigurationError(
            f"requests to the SQS queue {queue!r} cannot be made: {_told(error)}"
        ) from error
    except (BotoCoreError, ResponseParserError, OSError) as error:
        raise Unavailable(f"SQS did not answer for the queue {queue!r}: {_told(error)}") from error
    except RuntimeError as error:
        # What botocore raises when whoever gives out credentials gives out expired ones.
        if "credentials" not in str(error):
            raise
        raise Unavailable(f"there are no valid credentials for the queue {queue!r}") from error


def check_is_empty(queue: str, answer: Mapping[str, Any]) -> None:
    """Raise `Unavailable` if an answer that holds nothing is none of SQS, but a gateway's page.

    botocore reads whatever comes with a good status as an answer, and what is not JSON as one that
    says nothing. What SQS says when nothing waits is short, and not as short as nothing at all.
    """
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    kind, length = headers.get("content-type", ""), headers.get("content-length")
    if length is None or not length.isdecimal():
        is_foreign = "html" in kind
    else:
        # Clients of an older kind speak XML, and make a long one of it.
        is_foreign = int(length) == 0 or (int(length) > EMPTY_BYTES_MAX and "xml" not in kind)
    if is_foreign:
        told = f"{length or 'some'} bytes of {kind or 'an unknown kind'}"
        raise Unavailable(f"instead of SQS something else answered for the queue {queue!r}: {told}")


@contextmanager
def opening() -> Iterator[None]:
    """Raise `ConfigurationError` for what keeps a client from being made."""
    try:
        yield
    except NoRegionError as error:
        raise ConfigurationError(NO_REGION) from error
    except BotoCoreError as error:
        raise ConfigurationError(f"a client for SQS cannot be made: {_told(error)}") from error
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        # Its text would quote the address, and what that may hold of a password.
        raise ConfigurationError("the endpoint URL for SQS is malformed") from None


def told_of_entry(failed: Mapping[str, Any]) -> str:
    """Return what SQS says of one entry of a batch that it did not carry out."""
    code, message = _code(failed), str(failed.get("Message", ""))
    # An expired receipt comes as InvalidParameterValue, and only its text tells which value.
    if code in _NO_LONGER_VALID or "receipt handle has expired" in message:
        return f"the receipt is no longer valid ({code})"
    return _shortened(f"{code}: {message}" if message else code or "SQS gave no reason")


def _of_answer(queue: str, error: ClientError) -> ConfigurationError | Unavailable:
    answer = error.response.get("Error", {})
    code, message = _code(answer), str(answer.get("Message", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    told = _shortened(f"{code}: {message}" if message else code)
    if _refuses_credentials(code):
        return Unavailable(f"SQS refused the credentials for the queue {queue!r}: {code}")
    if code in _NO_QUEUE:
        return ConfigurationError(
            f"the SQS queue {queue!r} does not exist ({code}); check its URL, its region and the"
            " account"
        )
    if _TOO_MUCH.match(code) or status in (408, 429):
        return Unavailable(f"SQS is asked for too much of the queue {queue!r}: {told}")
    if code in _NO_ACCESS or status == 403:
        return ConfigurationError(f"SQS denied access to the queue {queue!r}: {told}")
    if 400 <= status < 500:
        return RefusedError(f"SQS refused a request for the queue {queue!r}: {told}")
    return Unavailable(f"SQS could not serve the queue {queue!r}: {told}")


def _cause(error: ClientError) -> ClientError | None:
    """Return the error, unless its text may quote the request with its session token."""
    return None if _refuses_credentials(_code(error.response.get("Error", {}))) else error


def _refuses_credentials(code: str) -> bool:
    return code in _CREDENTIALS or _EXPIRED.match(code) is not None


def _code(answer: Mapping[str, Any]) -> str:
    """Return the error's code without the namespaces that some of them have."""
    return str(answer.get("Code", "")).rpartition(".")[2]


def _told(error: BaseException) -> str:
    name = type(error).__name__
    return _shortened(f"{name}: {error}" if str(error) else name)


def _shortened(text: str) -> str:
    return text if len(text) <= TOLD_CHARS_MAX else f"{text[:TOLD_CHARS_MAX]}…"
