"""Routes of single sign-on."""

from typing import Annotated

from fastapi import APIRouter, Cookie, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from ..kernel.deps import AppResources
from . import sso
from .deps import ClientAddress
from .errors import SignOnRefused
from .schemas import AuthResponse

router = APIRouter(tags=["auth"])

COOKIE = "raymill_sso"
_PATH = "/api/v1/auth/sso"


class SsoProviderRead(BaseModel):
    """A provider that people may sign on by."""

    name: str
    title: str
    login_url: str


class SsoAnswer(BaseModel):
    """What a provider sends a person back with (RFC 6749, sections 4.1.2 and 4.1.2.1)."""

    state: str = ""
    code: str | None = None
    error: str | None = None


def get_providers(request: Request) -> sso.SsoProviders:
    """Return the providers of this process."""
    providers: sso.SsoProviders = request.app.state.sso
    return providers


Providers = Annotated[sso.SsoProviders, Depends(get_providers)]


@router.get("/auth/sso")
def list_sso_providers(providers: Providers) -> list[SsoProviderRead]:
    """Return the providers that people may sign on by."""
    return [
        SsoProviderRead(name=each.name, title=each.settings.title or each.name, login_url=f"{_PATH}/{each.name}/login")
        for each in providers.all()
    ]


@router.get("/auth/sso/{provider}/login", status_code=307, response_class=RedirectResponse, responses={502: {}})
def begin_sso_login(
    provider: str, request: Request, resources: AppResources, providers: Providers, address: ClientAddress
) -> Response:
    """Send a person's browser to the provider."""
    found = providers.get(provider)
    begun = sso.begin(
        resources.cache,
        resources.limiter,
        provider=found,
        redirect_url=providers.redirect_url(found),
        address=address,
    )
    answer = RedirectResponse(begun.url, headers={"Cache-Control": "no-store"})
    answer.set_cookie(
        COOKIE,
        begun.state,
        max_age=sso.STATE_TTL_S,
        path=_PATH,
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="lax",
    )
    return answer


@router.get("/auth/sso/{provider}/callback", responses={401: {}, 403: {}, 409: {}, 502: {}})
def finish_sso_login(
    provider: str,
    answer: Annotated[SsoAnswer, Query()],
    response: Response,
    resources: AppResources,
    providers: Providers,
    raymill_sso: Annotated[str | None, Cookie(include_in_schema=False)] = None,
) -> AuthResponse:
    """Open a session for whom the provider sends back."""
    found = providers.get(provider)
    if answer.code is None:
        raise SignOnRefused(f"The provider refused the sign-on: {answer.error or 'no code'}; start again.")
    identity = sso.finish(
        resources.cache, provider=found, state=answer.state, state_of_browser=raymill_sso, code=answer.code
    )
    response.headers["Cache-Control"] = "no-store"
    response.delete_cookie(COOKIE, path=_PATH)
    with resources.session() as session:
        return sso.sign_in(
            session, provider=found, identity=identity, signer=resources.signer, settings=resources.settings.auth
        )
