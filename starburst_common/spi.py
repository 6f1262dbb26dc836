"""What integrations may import beside the public names of `starburst_common`: a line each. The rest is inside.

As there, a module is loaded when a name of it is first used, so that workers load no more than a call takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # where a run is done
    from starburst_common.aws import aws_backend as aws_backend  # that of a site
    from starburst_common.aws.console import console_of as console_of  # where AWS's console of a region begins
    from starburst_common.aws.reach import site_parts as site_parts  # what of a site can be reached, a line each
    from starburst_common.aws.sessions import AwsSession as AwsSession  # boto3's, for annotations
    from starburst_common.aws.sessions import SessionAt as SessionAt  # the same with endpoints of its own
    from starburst_common.aws.sessions import session_in as session_in  # credentials of a process, or of a role
    from starburst_common.backends import local_at as local_at  # that of this machine, kept in a folder
    from starburst_common.backends import open_backend as open_backend  # as settings, or a word, name it
    from starburst_common.backends import preload as preload  # what the first backend here would wait for

    # the user's functions and values, as they travel
    from starburst_common.code.modules import imported as imported  # modules here among the names in a pickle
    from starburst_common.code.modules import names_in as names_in  # those names
    from starburst_common.code.projects import in_packages as in_packages  # whether a file is a package's or of Python
    from starburst_common.config import SETTINGS as SETTINGS  # the table of settings
    from starburst_common.config import ImageSettings as ImageSettings  # how images are made, checked
    from starburst_common.config import settings as settings  # all of them, from variables and files
    from starburst_common.config import with_outside as with_outside  # options with those of variables and files
    from starburst_common.data.given import SUFFIXES as SUFFIXES  # of files whose rows can be items
    from starburst_common.data.results import discard_results as discard_results  # files that a run wrote
    from starburst_common.dollars import usd_text as usd_text  # dollars in words

    # what is asked of it
    from starburst_common.early import start_as as start_as  # as `Cluster.start`, under an id made before
    from starburst_common.environment.apart import beside as beside  # what is installed, but for a host such as Airflow
    from starburst_common.environment.choose import nearest_requirements as nearest_requirements  # of a folder's code

    # a run: `Cluster.start` begins one, `attach` finds one
    from starburst_common.ids import new_run_id as new_run_id  # for `start_as`
    from starburst_common.model import RunId as RunId  # all that another process needs to go on with it
    from starburst_common.money.estimate import Estimate as Estimate  # what its work costs; `Run.estimate` makes it
    from starburst_common.money.estimate import spent_text as spent_text  # what a run costs so far, in words
    from starburst_common.offered import OPTIONS as OPTIONS  # the table of what may be asked of a map
    from starburst_common.offered import MapOptions as MapOptions  # the same for type checkers
    from starburst_common.options import Options as Options  # one map's, checked
    from starburst_common.options import refuse_unknown as refuse_unknown  # with what was probably meant

    # words for people
    from starburst_common.phrases import code as code  # a text as code in markdown
    from starburst_common.phrases import duration as duration  # seconds in words
    from starburst_common.phrases import markdown as markdown  # a text as itself in markdown
    from starburst_common.phrases import one_line as one_line  # a text cut to a line
    from starburst_common.phrases import our_log as our_log  # a logger whose lines fit
    from starburst_common.phrases import told as told  # a value as a message names it
    from starburst_common.pickling.byvalue import dumps as dumps  # a value pickled; a script's by value
    from starburst_common.pickling.places import MAINS as MAINS  # what a user's program is called
    from starburst_common.pickling.raised import named as named  # an exception's type and text
    from starburst_common.pickling.raised import packed as packed  # an exception pickled, whatever its constructor
    from starburst_common.pickling.raised import printed as printed  # its traceback, from the user's frame on
    from starburst_common.pickling.setup import names_of as names_of  # what code may mean by its module's names
    from starburst_common.pickling.setup import reached as reached  # a function, and those that it calls there
    from starburst_common.pickling.state import State as State  # what a function was: equal ones are sent once
    from starburst_common.pickling.within import explain as explain  # a file that was not found on a worker
    from starburst_common.ports import Backend as Backend  # what all is handed; who opens one closes it
    from starburst_common.progress import left_s as left_s  # seconds until it is over, by how fast it goes
    from starburst_common.progress import line as line  # how a run stands, in a line of a log
    from starburst_common.progress import progress as progress  # the same on stderr, while a block runs
    from starburst_common.rows import YES_NO as YES_NO  # the rule of a table's row: true or false
    from starburst_common.rows import Row as Row  # one of a table: meaning, rules, default, how text is read
    from starburst_common.rows import one_of as one_of  # a rule: one of a few words
    from starburst_common.rows import whole as whole  # a rule: a whole number from here to there
    from starburst_common.runs.answers import exception_of as exception_of  # a failure as the exception to raise
    from starburst_common.runs.answers import with_traceback as with_traceback  # a worker's, as an exception's cause
    from starburst_common.runs.claims import Claim as Claim  # one try's claim to the run under a name from outside
    from starburst_common.runs.claims import Claims as Claims  # all of a name's: who is not the last has lost the run
    from starburst_common.runs.claims import Stage as Stage  # how far a claim has come
    from starburst_common.runs.drive import Driver as Driver  # a trigger calls its `step`, and reads `books.events`
    from starburst_common.runs.find import answer_of as answer_of  # one item's value or failure
    from starburst_common.runs.find import driver_of as driver_of  # the one to step, of a run that some process began
    from starburst_common.runs.find import run_of as run_of  # the run that it drives, as it knows it
    from starburst_common.runs.manifest import written_to as written_to  # the pattern of files of a run's values
    from starburst_common.runs.replay import stored_items as stored_items  # what it was given
    from starburst_common.runs.report import elapsed_s as elapsed_s  # how long a run has taken so far
    from starburst_common.runs.retry import newest_of as newest_of  # the last retry of a run: the one to drive
    from starburst_common.runs.sign import Watch as Watch  # whether who feeds it lives
    from starburst_common.runs.watching import Watching as Watching  # a run's status whenever something happens
    from starburst_common.sites.site import SITE as SITE  # the table of what a site has
    from starburst_common.sites.site import Site as Site  # one, checked
    from starburst_common.tolerance import Tolerance as Tolerance  # how many failures are within what was named

_HOMES = {
    "aws": "aws_backend",
    "aws.console": "console_of",
    "aws.reach": "site_parts",
    "aws.sessions": "AwsSession SessionAt session_in",
    "backends": "local_at open_backend preload",
    "dollars": "usd_text",
    "early": "start_as",
    "code.modules": "imported names_in",
    "code.projects": "in_packages",
    "config": "SETTINGS ImageSettings settings with_outside",
    "data.given": "SUFFIXES",
    "data.results": "discard_results",
    "environment.apart": "beside",
    "environment.choose": "nearest_requirements",
    "ids": "new_run_id",
    "model": "RunId",
    "money.estimate": "Estimate spent_text",
    "offered": "OPTIONS MapOptions",
    "options": "Options refuse_unknown",
    "phrases": "code duration markdown one_line our_log told",
    "pickling.byvalue": "dumps",
    "pickling.places": "MAINS",
    "pickling.raised": "named packed printed",
    "pickling.setup": "names_of reached",
    "pickling.state": "State",
    "pickling.within": "explain",
    "ports": "Backend",
    "progress": "left_s line progress",
    "rows": "YES_NO Row one_of whole",
    "runs.answers": "exception_of with_traceback",
    "runs.claims": "Claim Claims Stage",
    "runs.drive": "Driver",
    "runs.find": "answer_of driver_of run_of",
    "runs.manifest": "written_to",
    "runs.replay": "stored_items",
    "runs.report": "elapsed_s",
    "runs.retry": "newest_of",
    "runs.sign": "Watch",
    "runs.watching": "Watching",
    "sites.site": "SITE Site",
    "tolerance": "Tolerance",
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # a type checker that saw it would take any misspelt name for one that is offered

    def __getattr__(name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"starburst_common.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_WHERE)
