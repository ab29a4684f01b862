"""AccountService: signup, login, the account's statements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backit.errors import Invalid
from backit.format.statement import StatementKind
from backit.ids import AccountId, DeviceId, SlotId
from backit.v1 import accounts_pb2 as pb
from backit.v1 import accounts_pb2_grpc
from backitd.auth.challenges import CHALLENGE_BYTES, User
from backitd.auth.principals import Person, current_caller
from backitd.services import parse, render

if TYPE_CHECKING:
    import grpc

    from backit.format.statement import Statement
    from backitd.auth.challenges import Claimant
    from backitd.auth.login import Logins
    from backitd.auth.principals import Principal
    from backitd.auth.signup import Signup
    from backitd.auth.tokens import Tokens
    from backitd.store import Store

SCHEME = 1
MOST_FIRST_STATEMENTS = 32
LONGEST_INVITE = 64
LONGEST_SIGNATURE = 64
PAGE_TOKEN = re.compile(r"([0-9]{1,3})-([0-9a-f]{0,64})-([0-9]{1,20})")
FOR_DEVICES = frozenset(
    (
        StatementKind.ACCOUNT,
        StatementKind.EPOCH,
        StatementKind.DEVICE,
        StatementKind.REVOCATION,
    )
)


class AccountService(accounts_pb2_grpc.AccountServiceServicer):
    def __init__(self, store: Store, *, logins: Logins, tokens: Tokens, signup: Signup) -> None:
        self._store = store
        self._logins = logins
        self._tokens = tokens
        self._signup = signup

    def CreateAccount(
        self, request: pb.CreateAccountRequest, context: grpc.ServicerContext
    ) -> pb.Account:
        account = AccountId(request.account_id)
        if len(request.invite) > LONGEST_INVITE:
            raise Invalid(f"an invite of {len(request.invite)} characters")
        statements = parse.owned_statements(request.statements, account, MOST_FIRST_STATEMENTS)
        return render.account(self._signup.create(account, request.invite, statements))

    def CreateChallenge(
        self, request: pb.CreateChallengeRequest, context: grpc.ServicerContext
    ) -> pb.Challenge:
        challenge, stretching = self._logins.challenge(_claimant(request))
        answer = pb.Challenge(
            challenge=challenge, ca_fingerprint=self._logins.ca_fingerprint, scheme=SCHEME
        )
        if stretching is not None:
            answer.salt = stretching.salt
            answer.memory_kib = stretching.cost.memory_kib
            answer.passes = stretching.cost.passes
        return answer

    def Login(self, request: pb.LoginRequest, context: grpc.ServicerContext) -> pb.Token:
        challenge = parse.exactly(request.challenge, CHALLENGE_BYTES, "challenge")
        signature = parse.exactly(request.signature, LONGEST_SIGNATURE, "signature")
        issued = self._logins.log_in(challenge, signature)
        return pb.Token(
            token=issued.token,
            expire_time=render.moment(issued.expires),
            account=issued.caller.account.name,
        )

    def Logout(self, request: pb.LogoutRequest, context: grpc.ServicerContext) -> pb.LogoutResponse:
        self._tokens.end(current_caller())
        return pb.LogoutResponse()

    def GetAccount(
        self, request: pb.GetAccountRequest, context: grpc.ServicerContext
    ) -> pb.Account:
        caller = current_caller()
        return render.account(self._store.account(caller.account), caller.principal.name)

    def ListStatements(
        self, request: pb.ListStatementsRequest, context: grpc.ServicerContext
    ) -> pb.ListStatementsResponse:
        caller = current_caller()
        most = parse.page_size(request.page_size)
        after = _place_after(request.page_token)
        visible = sorted(
            (
                statement
                for statement in self._store.statements(caller.account)
                if _may_see(caller.principal, statement) and _place(statement) > after
            ),
            key=_place,
        )
        page, more = render.page(visible, lambda statement: len(statement.encoded), most)
        return pb.ListStatementsResponse(
            statements=[statement.encoded for statement in page],
            next_page_token="-".join(map(str, _place(page[-1]))) if more else "",
        )

    def PutStatements(
        self, request: pb.PutStatementsRequest, context: grpc.ServicerContext
    ) -> pb.PutStatementsResponse:
        caller = current_caller()
        statements = parse.owned_statements(request.statements, caller.account)
        self._store.put_statements(caller.account, statements)
        self._logins.statements_stored(statements, caller)
        return pb.PutStatementsResponse()


def _claimant(request: pb.CreateChallengeRequest) -> Claimant:
    match request.WhichOneof("who"):
        case "user":
            return User(parse.text(request.user, "user name"))
        case "slot":
            return parse.resource(SlotId, request.slot)
        case "device":
            return parse.resource(DeviceId, request.device)
        case _:
            raise Invalid("a login of nobody: user, slot or device is needed")


def _may_see(principal: Principal, statement: Statement) -> bool:
    return isinstance(principal, Person) or statement.kind in FOR_DEVICES


def _place(statement: Statement) -> tuple[int, str, int]:
    """Where a statement stands in lists; as text, "kind-subject-number", it is a page token."""
    return int(statement.kind), statement.subject.hex(), statement.number


def _place_after(token: str) -> tuple[int, str, int]:
    if not token:
        return 0, "", 0
    found = PAGE_TOKEN.fullmatch(token)
    if found is None:
        raise Invalid("this is no page token of ours")
    return int(found[1]), found[2], int(found[3])
