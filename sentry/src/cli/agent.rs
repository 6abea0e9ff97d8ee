//! stub
use clap::Args;
/// Supervise
#[derive(Args, Debug)]
pub struct Agent {}
impl Agent {
    pub fn run(&self, _: &mut dyn std::io::Write) -> anyhow::Result<u8> {
        Ok(0)
    }
}
