from discue.dashboard.formats import sentence, worded


def test_times_of_a_sentence_are_elements_and_the_rest_is_escaped() -> None:
    shown = sentence("Retry at 2026-11-28T06:20:22.044Z, or <b>soon</b> after.", for_customer=False)
    assert shown == (
        'Retry at <time datetime="2026-11-28T06:20:22.044Z" title="28 Nov 2026, 06:20:22.044 UTC">'
        "28 Nov 2026, 06:20:22 UTC</time>, or &lt;b&gt;soon&lt;/b&gt; after."
    )


def test_names_in_a_sentence_are_code_and_cannot_be_markup() -> None:
    shown = sentence("Run `discue dev` with `<b>`.", for_customer=False)
    assert shown == "Run <code>discue dev</code> with <code>&lt;b&gt;</code>."


def test_sentences_for_customers_name_endpoints_and_no_settings() -> None:
    text = "The listener is disabled because all attempts failed for the time that `disable_after_seconds` sets."
    assert worded(text, for_customer=True) == "The endpoint is disabled because all attempts failed for days."
    assert worded(text, for_customer=False) == text
    host = "Cannot resolve the listener.example.com: the listener has no address."
    assert worded(host, for_customer=True) == "Cannot resolve the listener.example.com: the endpoint has no address."
