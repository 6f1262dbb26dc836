"""A block of settings and credentials in, the AWS backend that they name out; kept by a Prefect server under a name."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast, runtime_checkable

from prefect.blocks.core import Block
from prefect.client.schemas.objects import BlockDocument
from pydantic import ConfigDict, Field, HttpUrl, ValidationInfo, field_validator, model_validator

from starburst_common import BadInput
from starburst_common.spi import SETTINGS, SITE, Backend, ImageSettings, Site, aws_backend, session_in

if TYPE_CHECKING:
    from starburst_common.spi import AwsSession

_SOURCE = "Starburst Site"


@runtime_checkable
class Credentials(Protocol):
    """Any block that makes boto3 sessions, such as `prefect_aws.AwsCredentials`."""

    def get_boto3_session(self) -> AwsSession:
        """A session with credentials as they are now."""


class StarburstSite(Block):
    """Where starburst runs in one AWS account and region, and with whose credentials. See docs/aws.md.

    Example:
        Save a site once, and name it in flows:
        ```python
        from prefect_starburst import StarburstSite, StarburstTaskRunner

        StarburstSite(name="main", region="us-east-1", bucket="my-starburst", ...).save("main")


        @flow(task_runner=StarburstTaskRunner(workers=50, site="main"))
        def forecast(): ...
        ```
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)  # credentials are among it

    _block_type_name: ClassVar[str | None] = "Starburst Site"
    _block_type_slug: ClassVar[str | None] = "starburst-site"
    _description: ClassVar[str | None] = (
        "An AWS account and region where starburst runs the tasks of flows as containers on Amazon ECS."
    )
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl("https://pypi.org/project/starburst-ecs/")

    for _setting in SITE.values():  # one table says what a site has: its fields are made of that
        __annotations__[_setting.name] = _setting.kind
        vars()[_setting.name] = Field(
            default=... if _setting.needed else _setting.default, description=_setting.meaning
        )
    del _setting
    image_settings: dict[str, Any] = Field(
        default_factory=dict, description="How images are made: the settings of [image], see docs/images.md."
    )
    keep_days: float = Field(default=7, gt=0, description=SETTINGS["keep_days"].meaning)
    role: str = Field(
        default="",
        pattern=r"^(arn:aws[a-z-]*:iam::\d{12}:role/.+)?$",
        description="ARN of a role to assume for all that the flow's process does in AWS.",
    )
    credentials_type: str = Field(default="", description="The block type of credentials. Filled in when saved.")
    #: Typed as anything, since Prefect would register the type of a nested block, and there are many.
    credentials: Any = Field(
        default=None, description="A saved AwsCredentials block; none: the credentials of the flow's process."
    )

    @field_validator("credentials")
    @classmethod
    def _makes_sessions(cls, given: Any, info: ValidationInfo) -> Any:
        """As given, or of a saved site, which holds the values of that other block without their type."""
        if isinstance(given, dict) and (slug := info.data.get("credentials_type")):
            given = Block.get_block_class_from_key(slug).model_validate(given)
        if given is not None and not (isinstance(given, Block) and isinstance(given, Credentials)):
            raise BadInput(
                f"credentials: {type(given).__name__} has no get_boto3_session(): give a block such as AwsCredentials"
            )
        return given

    @model_validator(mode="after")
    def _is_a_site(self) -> Self:
        self.site()
        ImageSettings.of(self.image_settings, f"{_SOURCE}: image_settings")
        return self

    def site(self) -> Site:
        """Its settings, complete and checked. Raises `BadInput`."""
        mine = {field.name: getattr(self, field.name) for field in fields(Site)}
        return Site.of({**mine, **(self.model_extra or {})}, _SOURCE)

    def backend(self) -> Backend:
        """Open the AWS backend with the block's credentials; who opens it closes it.

        Raises `Denied` where the credentials are not allowed to read the site's signing secret, `BadInput` where it is
        not there, `Unavailable` where AWS cannot be reached.
        """
        return aws_backend(
            self.site(),
            keep_days=self.keep_days,
            image=ImageSettings.of(self.image_settings, f"{_SOURCE}: image_settings"),
            new_session=self.get_boto3_session,
        )

    def get_boto3_session(self) -> AwsSession:
        """A new session in the site's region: of `credentials`, or of this process; with a `role`, of that one.

        The role is assumed when credentials are first needed, and anew before they expire.
        """
        own = None if self.credentials is None else cast("Credentials", self.credentials).get_boto3_session
        site = self.site()
        return session_in(site.region, own, role=self.role, purpose=f"starburst-{site.name}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _content(other) == _content(self)

    def _to_block_document(self, *args: Any, **kwargs: Any) -> BlockDocument:
        if isinstance(self.credentials, Block):
            self.credentials_type = self.credentials.get_block_type_slug()
            if self.credentials._block_document_id is None:  # its secrets would be kept, and shown, as ordinary values
                raise BadInput(
                    f"credentials: this {type(self.credentials).__name__} is not saved, and a site only refers to its "
                    "credentials: call their save() first, then that of the site"
                )
        return super()._to_block_document(*args, **kwargs)


def _content(block: Block) -> dict[str, Any]:
    """What a block says, wherever it may be saved."""
    return {
        name: (type(value), _content(value)) if isinstance(value, Block) else value
        for name, value in vars(block).items()
        if name != "credentials_type"
    }
