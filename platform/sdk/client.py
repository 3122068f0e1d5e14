"""The client: one connection to a platform and everything that can be asked of it."""

from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from .api_keys import ApiKeys
from .audit import Audit
from .auth import Auth
from .credentials import StoredCredential
from .datasets import Datasets
from .deployments import Deployments
from .models import Models
from .predict import Predictions
from .projects import Projects
from .runs import Runs
from .secrets import Secrets
from .teams import Teams
from .training_jobs import TrainingJobs
from .transport import Credential, FixedCredential, Retries, Transport
from .users import ServiceAccounts, Users


class Client:
    """Talks to one platform; use it as a context manager, or close it.

    Example:
        >>> with Client("http://127.0.0.1:8000", api_key="rm_…") as client:  # doctest: +SKIP
        ...     client.endpoints.predict("digits.reader", [[0.0] * 64])
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        *,
        api_key: str | None = None,
        credential: Credential | None = None,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        request_id: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Prepare a connection; nothing is sent yet.

        Args:
            base_url: URL of the platform, such as ``http://127.0.0.1:8000``.
            token: An access token.
            api_key: An API key, instead of a token.
            credential: A login that renews itself, instead of a token.
            timeout_s: Seconds to wait for an answer to begin or go on.
            retries: How often a call is tried.
            request_id: Sent with every call, so that the platform's logs name what they follow from.
            transport: What carries the requests, for tests.
        """
        self._transport = Transport(
            base_url,
            credential or FixedCredential(token, api_key),
            timeout_s=timeout_s,
            retries=retries,
            request_id=request_id,
            transport=transport,
        )
        self.auth = Auth(self._transport)
        self.users = Users(self._transport)
        self.service_accounts = ServiceAccounts(self._transport)
        self.projects = Projects(self._transport)
        self.teams = Teams(self._transport)
        self.secrets = Secrets(self._transport)
        self.datasets = Datasets(self._transport)
        self.training_jobs = TrainingJobs(self._transport)
        self.models = Models(self._transport)
        self.runs = Runs(self._transport)
        self.deployments = Deployments(self._transport)
        self.api_keys = ApiKeys(self._transport)
        self.audit = Audit(self._transport)
        self.endpoints = Predictions(self._transport)

    @classmethod
    def from_home(cls, home: Path, *, timeout_s: float = 30.0) -> Self:
        """Use the login that ``raymill login`` keeps below ``home``; it is renewed when it runs out.

        Raises:
            AuthenticationFailed: If there is none.
        """
        login = StoredCredential(home)
        return cls(login.base_url, credential=login, timeout_s=timeout_s)

    @property
    def base_url(self) -> str:
        """URL of the platform without a trailing slash."""
        return self._transport.base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()
