//! Keeping a study within its time.
//!
//! The round that warms up shows what each answer costs. Whatever is cheap is then asked in every round; what is dear in as many
//! as make an interval; and if even that is too much, the dearest answers are left out, and said to be. Native and its
//! control are never left out.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::rounds::{Effort, NotNow, TimeIsUp};

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
        Self {
            began,
            within,
            rounds,
            round: 0,
            asked: HashSet::new(),
            costs: HashMap::new(),
            plan: Plan::default(),
        }
    }

    /// Asks, if it is this one's turn. `spare` is whether it may be left out.
    pub fn ask(
        &mut self,
        pair: Pair,
        spare: impl Fn(Pair) -> bool,
        ask: impl FnOnce() -> anyhow::Result<f64>,
    ) -> anyhow::Result<f64> {
        // Each pair comes once a round.
        if !self.asked.insert(pair) {
            self.asked = HashSet::from([pair]);
            self.round += 1;
            let left = self.within.saturating_sub(self.began.elapsed());
            if self.round == 1 {
                self.plan = plan(&self.costs, left, self.rounds, spare);
            } else if self.round > Effort::FEWEST && left.is_zero() {
                return Err(TimeIsUp.into());
            }
        }
        if self.plan.never.contains(&pair) {
            let cost = self.costs.get(&pair).map_or(0.0, Duration::as_secs_f64);
            return Err(anyhow!("left out: one answer takes {cost:.1} s, too long for all to be done in time"));
        }
        if self.plan.seldom.contains(&pair) && !self.round.is_multiple_of((self.rounds / Effort::FEWEST).max(1)) {
            return Err(NotNow.into());
        }
        let start = Instant::now();
        let answer = ask();
        if self.round == 0 {
            self.costs.insert(pair, start.elapsed());
        }
        answer
    }
}

/// What can be done in the time `left`.
fn plan(costs: &HashMap<Pair, Duration>, left: Duration, rounds: usize, spare: impl Fn(Pair) -> bool) -> Plan {
    let fewest = Effort::FEWEST.min(rounds);
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
        let seldom = |plan: &Plan| plan.seldom.len();
        let generous = plan(&all, Duration::from_secs(180), 15, |_| true);
        assert_eq!(generous, Plan::default());
        let tight = plan(&all, Duration::from_secs(60), 15, |_| true);
        assert_eq!((tight.seldom, tight.never.len()), (HashSet::from([(0, 2)]), 0));
        let tighter = plan(&all, Duration::from_secs(10), 15, |_| true);
        assert_eq!((seldom(&tighter), &tighter.never), (3, &HashSet::from([(0, 2)])));
        let native = plan(&all, Duration::ZERO, 15, |(_, s)| s != 2);
        assert_eq!(native.never, HashSet::from([(0, 0), (0, 1)]));
    }

    #[test]
    fn rounds_are_told_apart_and_time_ends_them() {
        let mut patience = Patience::new(Instant::now(), Duration::ZERO, 9);
        let mut answers = Vec::new();
        for _ in 0..5 {
            for s in 0..2 {
                let slow = || {
                    std::thread::sleep(Duration::from_millis(2));
                    Ok(1.0)
                };
                answers.push(patience.ask((0, s), |(_, s)| s == 1, slow));
            }
        }
        let told = |answer: &anyhow::Result<f64>| match answer {
            Ok(_) => "ok",
            Err(error) if error.is::<NotNow>() => "not now",
            Err(error) if error.is::<TimeIsUp>() => "over",
            Err(_) => "left out",
        };
        let told: Vec<&str> = answers.iter().map(told).collect();
        assert_eq!(told[..6], ["ok", "ok", "not now", "left out", "not now", "left out"]);
        assert_eq!(told[6], "ok", "every third of nine rounds makes three");
        assert_eq!(told[8], "over");
    }
}
