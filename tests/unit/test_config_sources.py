"""Sources: where, as whom, how often."""

import pytest

from unit.config_samples import URL, loaded, minimal, mistakes, settings, with_source


def source(**keys):
    return settings(with_source(**keys)).sources["shop"]


def test_everything_but_the_url_has_a_default():
    data = minimal()
    del data["sources"]["shop"]["auth"]

    shop = settings(data).sources["shop"]

    assert (shop.url, shop.id, shop.api, shop.auth) == (URL, URL, "v4", None)
    assert (shop.poll_interval, shop.request_timeout, shop.settle) == (1.0, 30.0, 0.0)
    assert (shop.page_limit, shop.page_bytes_max) == (1000, 64 * 2**20)
    assert (shop.rounded_sequences, shop.allow_http) == ("stop", False)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (URL + "/", URL),
        ("HTTPS://Run.JourneyApps.com:443/api/v4/533bda53027894f69b001055", URL),
        ("https://host/prefix/api/v4/x", "https://host/prefix/api/v4/x"),
        ("http://127.0.0.1:8800/api/v4/x", "http://127.0.0.1:8800/api/v4/x"),
        ("http://[::1]:8800/api/v4/x", "http://[::1]:8800/api/v4/x"),
        ("http://localhost/api/v4/x", "http://localhost/api/v4/x"),
    ],
)
def test_a_url_has_one_spelling_and_is_the_id_unless_one_is_given(written, normal):
    assert source(url=written).url == normal
    assert source(url=written).id == normal
    assert source(url=written, id="shop-1").id == "shop-1"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("run.journeyapps.com/api/v4/x", "must be a URL: https://HOST/api/v4/{backend-deployment-id}"),
        ("ftp://host/api/v4/x", "must be a URL: https://HOST/api/v4/{backend-deployment-id}"),
        ("https:///api/v4/x", "must be a URL: https://HOST/api/v4/{backend-deployment-id}"),
        ("https://host:port/api/v4/x", "must be a URL: https://HOST/api/v4/{backend-deployment-id}"),
        ("https://host/api\n/v4/x", "must be a URL: https://HOST/api/v4/{backend-deployment-id}"),
        ("https://host/api/v4/", "must end in /api/v4/{backend-deployment-id} or in /api/v1"),
        ("https://host/api/v4/x/oplog.json", "must end in /api/v4/{backend-deployment-id} or in /api/v1"),
        ("https://host/api/v1/shop", "must end in /api/v4/{backend-deployment-id} or in /api/v1"),
        ("https://ada:correct-horse@host/api/v4/x", "must not hold a user or password: they belong under auth"),
        ("https://host/api/v4/x?start=1", "must not hold a query or a fragment"),
        ("https://host/api/v4/x#a", "must not hold a query or a fragment"),
        (
            "http://host/api/v4/x",
            "must begin with https:// (or say allow_http: true, which sends the credentials in clear text)",
        ),
        (12, "must be text: put quotes around it"),
    ],
)
def test_a_wrong_url_is_explained_and_never_shown(url, why):
    assert mistakes(with_source(url=url)) == [f"sources.shop.url: {why}"]


def test_http_to_another_host_needs_leave_and_warns():
    found = loaded(with_source(url="http://host/api/v4/x", allow_http=True))
    assert found.settings.sources["shop"].url == "http://host/api/v4/x"
    assert found.warnings == ("sources.shop.url: is http: the credentials travel in clear text",)


def test_basic_token_and_named_token():
    basic = source().auth
    assert (basic.username, basic.password.get_secret_value(), basic.token) == ("ada", "correct-horse", None)
    bearer = source(auth={"token": "O:abc"}).auth
    assert (bearer.token.get_secret_value(), bearer.scheme, bearer.username) == ("O:abc", "Bearer", None)
    assert source(auth={"token": "abc", "scheme": "Token"}).auth.scheme == "Token"


@pytest.mark.parametrize(
    ("auth", "line"),
    [
        ({}, "sources.shop.auth: needs username and password, or a token"),
        ({"username": "a"}, "sources.shop.auth: needs username and password, or a token"),
        ({"username": "a", "token": "b"}, "sources.shop.auth: takes username and password, or a token, not both"),
        (
            {"username": "a", "password": "b", "scheme": "Token"},
            "sources.shop.auth: scheme goes with a token",
        ),
        ({"username": "a", "password": ""}, "sources.shop.auth.password: must not be empty"),
        ({"username": "a", "password": 12345}, "sources.shop.auth.password: must be text: put quotes around it"),
        (
            {"username": "a:b", "password": "c"},
            "sources.shop.auth.username: must be one line without a colon: Basic authentication splits there",
        ),
        ({"token": "correct\nhorse"}, "sources.shop.auth.token: must be one line of printable ASCII"),
        (
            {"token": "abc", "scheme": "bearer"},
            'sources.shop.auth.scheme: must be Bearer or Token, is "bearer" (did you mean "Bearer"?)',
        ),
        ("correct-horse", "sources.shop.auth: must be a mapping (key: value)"),
    ],
)
def test_credentials_are_one_of_two_ways(auth, line):
    assert mistakes(with_source(auth=auth)) == [line]


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("page_limit", 0, "must be at least 1, is 0"),
        ("page_limit", 1001, "must be at most 1000, is 1001"),
        ("page_limit", True, "must be a whole number"),
        ("page_limit", "many", "must be a whole number"),
        ("page_limit", 1.5, "must be a whole number"),
        ("poll_interval", 1, "must be a duration with its unit: 500ms, 1s, 15m, 2h, 1d"),
        ("poll_interval", "2h", "must be 0s to 1h"),
        ("page_bytes_max", "1B", "must be 64KiB to 1GiB"),
        ("page_bytes_max", 1024, "must be a size with its unit: 512B, 64KiB, 1MiB, 1GiB"),
        ("api", "v1", "api must be v4, as url has it"),
        ("api", "v5", 'must be v4 or v1, is "v5"'),
        ("rounded_sequences", "ignore", 'must be stop or allow, is "ignore"'),
        ("allow_http", "perhaps", "must be true or false"),
        ("id", "a\nb", "must be one line of text"),
    ],
)
def test_a_value_out_of_bounds_is_told_what_is_allowed(key, value, why):
    assert mistakes(with_source(**{key: value})) == [f"sources.shop.{key}: {why}"]


def test_numbers_and_switches_may_come_from_variables():
    data = with_source(page_limit="${LIMIT}", allow_http="${HTTP}")
    shop = settings(data, {"LIMIT": "500", "HTTP": "yes"}).sources["shop"]
    assert (shop.page_limit, shop.allow_http) == (500, True)


def test_faster_than_the_vendor_allows_is_a_warning_except_on_this_machine():
    warned = loaded(with_source(poll_interval="200ms"))
    assert warned.settings.sources["shop"].poll_interval == pytest.approx(0.2)
    assert warned.warnings == (
        "sources.shop.poll_interval: is below 1s: the vendor allows one request a second, and answers 429 to more",
    )
    assert loaded(with_source(poll_interval="200ms", url="http://127.0.0.1:8800/api/v4/x")).warnings == ()


def test_a_source_without_a_pipeline_or_credentials_is_a_warning():
    data = minimal()
    data["sources"]["other"] = {"url": URL + "6"}
    assert loaded(data).warnings == (
        "sources.other: no pipeline uses it",
        "sources.other.auth: is not set: the vendor's API refuses requests without it",
    )


def test_one_place_is_one_source():
    data = minimal()
    data["sources"]["again"] = {"url": URL.replace("run.", "RUN.") + "/"}
    assert mistakes(data) == ["sources.again.url: is the same as sources.shop.url: one source is polled once"]


def test_one_id_is_one_source():
    data = with_source(id="shop")
    data["sources"]["other"] = {"url": URL + "6", "id": "shop"}
    assert mistakes(data) == ["sources.other.id: is the same as sources.shop.id: an id names one source"]


def test_a_source_of_api_v1_names_itself():
    v1 = {"url": "https://host/api/v1", "api": "v1"}

    assert source(**v1, id="shop").id == "shop"
    assert mistakes(with_source(**v1)) == [
        "sources.shop: needs an id with api: v1, whose URL does not name the deployment"
    ]
    assert mistakes(with_source(url="https://host/api/v1", id="shop")) == [
        "sources.shop: api must be v1, as url has it"
    ]


@pytest.mark.parametrize(("start", "refused"), [("latest", True), ("2026-11-22T10:00:00Z", True), ("17", False)])
def test_a_pipeline_of_api_v1_begins_where_no_tail_is_asked_for(start, refused):
    data = with_source(url="https://host/api/v1", api="v1", id="shop")
    data["pipelines"]["out"]["start"] = start

    why = "pipelines.out.start: must be earliest or a sequence: API v1 cannot show its newest entries"
    assert mistakes(data) == ([why] if refused else [])
