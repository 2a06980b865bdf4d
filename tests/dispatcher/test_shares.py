"""dispatcher/shares.py: links lie evenly over the instances that live, and nothing swings."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dispatcher.shares import Beat, Census, Rival, Shares

SILENCE_S = 10.0
LINKS = ("l1", "l2", "l3", "l4", "l5")


def rivals(*names: str, links: tuple[str, ...] = LINKS, steady: bool = True) -> list[Rival]:
    return [Rival(name, links, steady) for name in names]


def owners(*names: str) -> dict[str, str]:
    """The owner of each link in the file's order; "" for a free one."""
    return dict(zip(LINKS, names, strict=False))


class TestTaking:
    """Who takes a free link at once."""

    def test_who_is_alone_takes_everything(self):
        """Availability needs no company."""
        shares = Shares("a", owners("", "", ""), [])
        for link in LINKS[:3]:
            assert shares.may_take(link)
            shares.taken(link)

    def test_each_takes_up_to_an_even_share_at_once_and_leaves_the_rest(self):
        """Two instances, four links: two each, and the third one is the other's."""
        shares = Shares("a", owners("", "", "", ""), rivals("b"))
        taken = []
        for link in LINKS[:4]:
            if shares.may_take(link):
                shares.taken(link)
                taken.append(link)
        assert taken == ["l1", "l2"]

    def test_a_link_left_over_is_anybody_s_who_holds_no_more_than_the_others(self):
        """Three links, two instances with one each."""
        assert Shares("a", owners("a", "b", ""), rivals("b")).may_take("l3")
        assert not Shares("a", owners("a", "a", "b", ""), rivals("b")).may_take("l4")

    def test_one_whose_file_does_not_name_the_link_does_not_count_for_it(self):
        """It could not carry it."""
        shares = Shares("a", owners("a", "a", ""), rivals("b", links=("l1",)))
        assert shares.may_take("l3")


class TestGiving:
    """Who gives a link away."""

    def test_two_more_than_another_is_one_too_many_and_the_last_of_the_file_goes(self):
        """The earlier ones stay where they are."""
        assert Shares("a", owners("a", "a"), rivals("b")).surplus() == "l2"
        assert Shares("a", owners("a", "a", "a", "b"), rivals("b")).surplus() == "l3"

    @pytest.mark.parametrize("spread", [("a",), ("a", "a", "b"), ("a", "b", "b")])
    def test_one_more_than_another_is_even(self, spread):
        """An odd link has to lie somewhere."""
        assert Shares("a", owners(*spread), rivals("b")).surplus() is None
        assert Shares("b", owners(*spread), rivals("a")).surplus() is None

    def test_nothing_is_given_while_a_link_is_free(self):
        """One at a time."""
        assert Shares("a", owners("a", "a", "a", ""), rivals("b")).surplus() is None

    def test_nothing_is_given_to_one_that_has_not_lived_for_long(self):
        """One that dies again and again must not take a link with it each time."""
        assert Shares("a", owners("a", "a"), rivals("b", steady=False)).surplus() is None

    def test_nothing_is_given_that_the_other_could_not_carry(self):
        """Its file does not name it."""
        assert Shares("a", owners("a", "a"), rivals("b", links=())).surplus() is None

    def test_only_the_one_that_holds_most_gives(self):
        """Two must not give for the same gap."""
        spread = owners("a", "a", "b", "b")
        assert Shares("a", spread, rivals("b", "c")).surplus() is None
        assert Shares("b", spread, rivals("a", "c")).surplus() == "l4"

    @pytest.mark.parametrize("seed", range(30))
    def test_wherever_it_begins_it_ends_even_and_moves_no_link_needlessly(self, seed):
        """Each gift is taken by one with fewer; the number of gifts is what the counts are off by."""
        chosen = random.Random(seed)
        names = [f"i{n}" for n in range(chosen.randint(2, 5))]
        links = [f"l{n}" for n in range(chosen.randint(1, 12))]
        spread = {link: chosen.choice(names[: chosen.randint(1, len(names))]) for link in links}
        held = Counter(spread.values())
        low, extra = divmod(len(links), len(names))
        counts = sorted((held[name] for name in names), reverse=True)
        needed = sum(max(0, count - low - (n < extra)) for n, count in enumerate(counts))

        def of(name: str) -> Shares:
            return Shares(name, spread, [Rival(other, links, True) for other in names if other != name])

        gifts = 0
        while given := [(name, link) for name in names if (link := of(name).surplus())]:
            ((giver, link),) = given
            spread[link] = ""
            takers = [name for name in names if of(name).may_take(link)]
            assert giver not in takers
            spread[link] = takers[0]
            gifts += 1
        held = Counter(spread.values())
        assert max(held[name] for name in names) - min(held[name] for name in names) <= 1
        assert gifts == needed


class TestCensus:
    """Which instances live, by our clock."""

    def test_one_lives_until_its_beat_has_stood_still_for_the_take_over_time(self):
        """No instant is compared between hosts."""
        census = Census("a", SILENCE_S)
        assert [rival.owner for rival in census.look([Beat("b", 7, LINKS)], 0.0)] == ["b"]
        assert census.look([Beat("b", 7, LINKS)], 9.9)
        assert census.look([Beat("b", 7, LINKS)], 10.1) == []
        assert census.look([Beat("b", 8, LINKS)], 11.0)

    def test_one_is_steady_once_it_has_beaten_for_the_take_over_time_without_a_stop(self):
        """A row that was never seen to move may be a dead one's."""
        census = Census("a", SILENCE_S)
        steady = []
        for second in range(31):
            beat = second if second < 12 else max(12, second - 11)  # stands still from 12 to 23
            (*found,) = census.look([Beat("b", beat, LINKS)], float(second))
            steady.append(bool(found) and found[0].is_steady)
        assert steady.index(True) == 10
        assert not any(steady[22:31])

    def test_one_that_left_and_came_back_begins_anew(self):
        """It was restarted."""
        census = Census("a", SILENCE_S)
        for second in range(12):
            (rival,) = census.look([Beat("b", second, LINKS)], float(second))
        assert rival.is_steady
        assert census.look([], 12.0) == []
        (rival,) = census.look([Beat("b", 1, LINKS)], 13.0)
        assert not rival.is_steady

    def test_one_does_not_count_itself(self):
        """Its own row tells it nothing."""
        assert Census("a", SILENCE_S).look([Beat("a", 1, LINKS)], 0.0) == []
