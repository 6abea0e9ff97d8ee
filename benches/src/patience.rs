//! Keeping a study within its time.
//!
//! The first asking shows what each answer costs. Whatever is cheap is then asked in every round; what is dear in as many as
//! make an interval; and if even that is too much, the dearest answers are left out, and said to be. Native and its control
//! are never left out.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::rounds::{Effort, TimeIsUp};

/// A question and a subject.
type Pair = (usize, usize);

/// Which answers are asked for in which rounds.
#[derive(Debug)]
pub struct Patience {
    began: Instant,
    within: Duration,
    rounds: usize,
    /// 0 warms up.
    round: usize,
    asked: HashSet<Pair>,
    costs: HashMap<Pair, Duration>,
    plan: Plan,
}

/// What the costs come to.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// Only in as many rounds as make an interval.
    seldom: HashSet<Pair>,
    /// Not at all.
    never: HashSet<Pair>,
}

impl Patience {
    /// For so many rounds in so much time, of which some was spent since `began`.
    pub fn new(began: Instant, within: Duration, rounds: usize) -> Self {
        Self { began, within, rounds, round: 0, asked: HashSet::new(), costs: HashMap::new(), plan: Plan::default() }
    }

    /// Asks, if it is this one's turn. What is `dear` warms up by itself; `spare` is whether one may be left out.
    pub fn ask(
        &mut self,
        pair: Pair,
        dear: bool,
        spare: impl Fn(Pair) -> bool,
        ask: impl FnOnce() -> anyhow::Result<f64>,
    ) -> anyhow::Result<Option<f64>> {
        // Each pair comes once a round.
        if !self.asked.insert(pair) {
            self.asked = HashSet::from([pair]);
            self.round += 1;
            let left = self.within.saturating_sub(self.began.elapsed());
            if self.round == PLANNED {
                // A slow machine takes a little longer rather than ask nothing.
                let further = (self.rounds + 1).saturating_sub(self.round);
                self.plan = plan(&self.costs, left.max(self.within / 4), further, spare);
            } else if self.round > Effort::FEWEST && left.is_zero() {
                return Err(TimeIsUp.into());
            }
        }
        if dear && self.round == 0 {
            return Ok(None);
        }
        if self.plan.never.contains(&pair) {
            let cost = self.costs.get(&pair).map_or(0.0, Duration::as_secs_f64);
            return Err(anyhow!("left out: one answer takes {cost:.1} s, too long for all to be done in time"));
        }
        if self.plan.seldom.contains(&pair) && self.round > Effort::FEWEST {
            return Ok(None);
        }
        let start = Instant::now();
        let answer = ask();
        self.costs.insert(pair, start.elapsed());
        answer.map(Some)
    }
}

/// The round at whose beginning every cost is known.
const PLANNED: usize = 2;

/// What can be done in the time `left`, in which there are `rounds` more.
fn plan(costs: &HashMap<Pair, Duration>, left: Duration, rounds: usize, spare: impl Fn(Pair) -> bool) -> Plan {
    let fewest = (Effort::FEWEST + 1 - PLANNED).min(rounds);
    let seconds = |rounds: usize, cost: Duration| cost.as_secs_f64() * rounds as f64;
    let mut dearest: Vec<(Pair, Duration)> = costs.iter().map(|(pair, cost)| (*pair, *cost)).collect();
    dearest.sort_unstable_by_key(|(pair, cost)| (std::cmp::Reverse(*cost), *pair));
    let mut total: f64 = dearest.iter().map(|(_, cost)| seconds(rounds, *cost)).sum();
    let mut plan = Plan::default();
    for (pair, cost) in &dearest {
        if total <= left.as_secs_f64() {
            return plan;
        }
        total -= seconds(rounds - fewest, *cost);
        plan.seldom.insert(*pair);
    }
    for (pair, cost) in dearest.iter().filter(|(pair, _)| spare(*pair)) {
        if total <= left.as_secs_f64() {
            break;
        }
        total -= seconds(fewest, *cost);
        plan.never.insert(*pair);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(seconds: &[u64]) -> HashMap<Pair, Duration> {
        seconds.iter().enumerate().map(|(s, seconds)| ((0, s), Duration::from_secs(*seconds))).collect()
    }

    #[test]
    fn dear_answers_are_asked_for_seldom_and_the_dearest_not_at_all() {
        let all = costs(&[1, 1, 10]);
        let generous = plan(&all, Duration::from_secs(180), 15, |_| true);
        assert_eq!(generous, Plan::default());
        let tight = plan(&all, Duration::from_secs(60), 15, |_| true);
        assert_eq!((tight.seldom, tight.never.len()), (HashSet::from([(0, 2)]), 0));
        let tighter = plan(&all, Duration::from_secs(10), 15, |_| true);
        assert_eq!((tighter.seldom.len(), &tighter.never), (3, &HashSet::from([(0, 2)])));
        let native = plan(&all, Duration::ZERO, 15, |(_, s)| s != 2);
        assert_eq!(native.never, HashSet::from([(0, 0), (0, 1)]));
    }

    /// What comes of nine rounds of a cheap pair that may not be left out and a dear one that may.
    fn rounds(within: Duration) -> Vec<[&'static str; 2]> {
        let mut patience = Patience::new(Instant::now(), within, 9);
        let mut one = |s: usize| {
            let answer = patience.ask(
                (0, s),
                s == 1,
                |(_, s)| s == 1,
                || {
                    std::thread::sleep(Duration::from_millis(if s == 1 { 60 } else { 2 }));
                    Ok(1.0)
                },
            );
            match answer {
                Ok(Some(_)) => "asked",
                Ok(None) => "not now",
                Err(error) if error.is::<TimeIsUp>() => "over",
                Err(_) => "left out",
            }
        };
        (0..6).map(|_| [one(0), one(1)]).collect()
    }

    #[test]
    fn time_decides_what_is_asked() {
        let plenty = rounds(Duration::from_secs(60));
        assert_eq!(plenty[..2], [["asked", "not now"], ["asked", "asked"]], "what is dear warms up by itself");
        assert!(plenty[1..].iter().all(|round| *round == ["asked", "asked"]));
        let some = rounds(Duration::from_millis(400));
        assert_eq!(some[2..5], [["asked", "asked"], ["asked", "asked"], ["asked", "not now"]]);
        let none = rounds(Duration::ZERO);
        assert_eq!((none[2], none[4][0]), (["asked", "left out"], "over"));
    }
}
