import json
import re
import stat
from datetime import timedelta

import pytest

from ninelives_control.errors import Code, CommandError
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import (
    APPLICATION,
    Authenticator,
    Credentials,
    Proof,
    Role,
    bearer,
    is_loopback,
)
from ninelives_control.identity.tokens import TokenFile
from ninelives_grpc.errors import ConfigError, UnknownNameError


def known(path, **options):
    return Authenticator(TokenFile(path), **options)


def code_of(authenticator, **shown):
    with pytest.raises(CommandError) as caught:
        authenticator.identify(Credentials(**shown))
    return caught.value.code


def test_a_token_says_who_somebody_is(tokens, tokens_path):
    identity = known(tokens_path).identify(Credentials(token=tokens["agent"]))

    assert (identity.name, identity.role, identity.proof) == ("agent", Role.AGENT, Proof.TOKEN)


def test_an_unknown_token_is_never_let_in(tokens, tokens_path):
    for authenticator in (Authenticator(), known(tokens_path), known(tokens_path, anonymous=True)):
        for token in ("", "wrong", tokens["admin"] + "x", "\ud800"):
            assert code_of(authenticator, token=token, loopback=True) is Code.UNAUTHENTICATED


def test_without_a_token_file_callers_on_this_machine_are_viewers():
    authenticator = Authenticator()

    identity = authenticator.identify(Credentials(loopback=True))

    assert (identity.name, identity.role) == ("anonymous", Role.VIEWER)
    assert authenticator.read_only
    assert code_of(authenticator, loopback=False) is Code.UNAUTHENTICATED


def test_with_a_token_file_a_token_is_needed(tokens, tokens_path):
    authenticator = known(tokens_path)

    assert code_of(authenticator, loopback=True) is Code.UNAUTHENTICATED
    assert not authenticator.read_only


def test_reading_without_a_token_can_be_allowed(tokens, tokens_path):
    authenticator = known(tokens_path, anonymous=True)

    assert authenticator.identify(Credentials(loopback=True)).role is Role.VIEWER
    assert code_of(authenticator, loopback=False) is Code.UNAUTHENTICATED


def test_an_identity_of_the_process_needs_no_proof():
    assert Authenticator().identify(APPLICATION) is APPLICATION


def test_a_token_does_not_show_up_where_credentials_are_printed(tokens):
    assert tokens["admin"] not in repr(Credentials(token=tokens["admin"]))


def test_only_the_hash_of_a_token_is_kept_and_only_for_its_owner(tokens_path):
    token = token_file.create(tokens_path, "me", Role.VIEWER)

    assert token not in tokens_path.read_text()
    assert stat.S_IMODE(tokens_path.stat().st_mode) == 0o600
    assert re.fullmatch(r"ninelives_[\w-]{43}", token)
    assert [path.name for path in tokens_path.parent.iterdir()] == ["tokens.json"]


def test_no_two_tokens_are_the_same(tokens):
    assert len(set(tokens.values())) == len(tokens)


def test_a_token_that_is_added_or_removed_counts_at_once(tokens, tokens_path):
    authenticator = known(tokens_path)

    late = token_file.create(tokens_path, "late", Role.OPERATOR)
    assert authenticator.identify(Credentials(token=late)).name == "late"

    token_file.remove(tokens_path, "late")
    assert code_of(authenticator, token=late) is Code.UNAUTHENTICATED


def test_a_token_ends_when_it_expires(tokens_path):
    token = token_file.create(tokens_path, "me", Role.AGENT, timedelta(hours=8))
    (entry,) = token_file.read(tokens_path)
    now = [entry.expires - timedelta(microseconds=1)]
    authenticator = Authenticator(TokenFile(tokens_path, lambda: now[0]))

    assert authenticator.identify(Credentials(token=token)).role is Role.AGENT
    now[0] = entry.expires
    with pytest.raises(CommandError, match=r"expired at .*Z; make another by `ninelives token cr"):
        authenticator.identify(Credentials(token=token))
    assert code_of(authenticator, token=token) is Code.UNAUTHENTICATED


def test_tokens_of_before_they_could_expire_are_still_read_and_stay_as_they_are(tokens_path):
    tokens_path.write_text(json.dumps({"tokens": [ENTRY]}))

    token_file.create(tokens_path, "you", Role.VIEWER)

    assert json.loads(tokens_path.read_text())["tokens"][0] == ENTRY
    assert token_file.read(tokens_path)[0].expires is None


def test_a_name_can_have_one_token(tokens, tokens_path):
    with pytest.raises(ConfigError, match="there is a token named 'admin'"):
        token_file.create(tokens_path, "admin", Role.ADMIN)


def test_an_unknown_name_cannot_be_removed(tokens, tokens_path):
    with pytest.raises(UnknownNameError, match="did you mean admin"):
        token_file.remove(tokens_path, "admn")


def test_a_link_to_the_file_stays_a_link(tokens_path, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(tokens_path)

    token_file.create(link, "me", Role.VIEWER)

    assert link.is_symlink()
    assert len(token_file.read(tokens_path)) == 1


ENTRY = {"name": "me", "role": "viewer", "sha256": "0" * 64, "created": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "tokens.json: is not JSON"),
        ("[]", 'tokens.json: must be {"tokens": [...]}'),
        ('{"tokens": {}}', 'tokens.json: must be {"tokens": [...]}'),
        (json.dumps({"tokens": [3]}), "tokens.json: tokens[0]:"),
        (json.dumps({"tokens": [ENTRY, ENTRY | {"role": "king"}]}), "tokens.json: tokens[1]: role"),
        (json.dumps({"tokens": [ENTRY | {"sha256": "abc"}]}), "tokens[0]: sha256"),
        (json.dumps({"tokens": [ENTRY | {"expires": "soon"}]}), "tokens[0]: expires"),
        (json.dumps({"tokens": [ENTRY | {"expires": "2026-01-01T00:00:00"}]}), "expires"),
        (json.dumps({"tokens": [ENTRY | {"nme": "x"}]}), "tokens[0]: no field named 'nme'"),
        (json.dumps({"tokens": [{"name": "x"}]}), "tokens[0]: role is missing"),
        (json.dumps({"tokens": [ENTRY, ENTRY]}), "tokens[1]: a second token named 'me'"),
    ],
)
def test_a_broken_file_names_the_file_and_the_entry(tokens_path, content, message):
    tokens_path.write_text(content)

    with pytest.raises(ConfigError) as caught:
        TokenFile(tokens_path)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_says_how_to_make_one(tokens_path):
    with pytest.raises(ConfigError, match="`ninelives token create` makes one"):
        TokenFile(tokens_path)


def test_a_file_that_cannot_be_written_is_an_error_of_its_own(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be written"):
        token_file.create(tmp_path / "file" / "tokens.json", "me", Role.VIEWER)


def test_a_file_that_breaks_while_it_is_used_lets_nobody_in_until_it_is_mended(
    tokens, tokens_path, caplog
):
    authenticator = known(tokens_path)
    good = tokens_path.read_text()

    tokens_path.write_text("{")
    assert code_of(authenticator, token=tokens["admin"]) is Code.UNAVAILABLE
    tokens_path.unlink()
    assert code_of(authenticator, token=tokens["admin"]) is Code.UNAVAILABLE
    assert str(tokens_path) in caplog.text

    tokens_path.write_text(good)
    assert authenticator.identify(Credentials(token=tokens["admin"])).role is Role.ADMIN


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("example.org", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host, here):
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], None),
        (["Bearer abc"], "abc"),
        (["bearer  abc "], "abc"),
        (["Basic abc"], ""),
        (["abc"], ""),
        ([""], ""),
        (["Bearer abc", "Bearer def"], ""),
        (["Bearer abc", "Bearer abc"], ""),
    ],
)
def test_headers_of_another_kind_and_several_count_as_an_unknown_token(headers, token):
    assert bearer(*headers) == token
