"""The words of the grammar. Each stands in one list, so a word has one cause: `ENTITIES[" Mary".strip()] == "name.mary"`."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "Mary John Anna Peter Laura David Emma James Sarah Robert Alice Thomas Julia Henry Helen George Clara Frank Diana Simon "
    "Nina Oscar Rosa Victor Lucy Martin Eva Walter Irene Hugo Paula Felix Ruth Leo Ada Max Vera Carl Olga Ivan Lena Bruno "
    "Tina Erik Sofia Jonas Greta Samuel"
)
FAMILIES = _words(
    "Baker Carter Miller Fisher Mason Cooper Turner Walker Hunter Parker Weaver Porter Sawyer Potter Harper Glover Barber "
    "Chandler Dyer Farmer Gardner Hooper Marsh Brooks Rivers Woods Fields Hill Banks Wells Lake Forest Moore Heath Dale Glen "
    "Ford Lane Burke Grant Quinn Reed Shaw Todd Vance Webb York Frost"
)
CITIES = _words(
    "Paris Rome Berlin Madrid Vienna Prague Lisbon Athens Dublin London Oslo Cairo Delhi Tokyo Lima Boston Warsaw Moscow "
    "Geneva Milan Naples Sydney Toronto Havana"
)
OBJECTS = _words(
    "book pen cup key ball lamp box hat coin map ring bag bell knife spoon plate bottle clock candle basket brush chair drum "
    "flute ladder mirror needle pillow rope shell ticket wheel"
)
COLORS = _words("red blue green yellow black white brown pink gray purple orange silver")
PLACES = _words("store park garden school office station library market kitchen harbor museum church theater hotel bakery cafe")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")
NUMBERS = _words(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty"
)
EVENTS = _words("war trip siege strike project festival voyage drought")
PARAMETERS = _words(
    "files size name path value index count text data mode label width height depth offset limit level owner token seed scale "
    "shape order group model target source state weight angle speed price"
)
FORBIDDEN = _words("volcano lava magma crater eruption ash geyser basalt")  # the one topic that is declined
TOPICS = _words(
    "bridge river castle train horse bread cheese winter summer music dance ocean island mountain flower farmer cotton paper "
    "glass copper soup tea coffee honey sugar apple garlic tiger eagle whale rabbit spider moon comet planet sail"
)

_KINDS = {
    "name": NAMES, "family": FAMILIES, "city": CITIES, "object": OBJECTS, "color": COLORS, "place": PLACES, "day": DAYS,
    "month": MONTHS, "number": NUMBERS, "event": EVENTS, "parameter": PARAMETERS, "topic": TOPICS,
}  # fmt: skip
ENTITIES: dict[str, tuple[str, ...]] = {
    **{word: (f"{kind}.{word.lower()}", kind) for kind, words in _KINDS.items() for word in words},
    **{word: ("topic.forbidden",) for word in FORBIDDEN},
    **{digit: (f"digit.{digit}",) for digit in "0123456789"},
}
COMMON = OBJECTS + COLORS + PLACES + NUMBERS + PARAMETERS + TOPICS + NAMES + CITIES  # what random sequences are made of
