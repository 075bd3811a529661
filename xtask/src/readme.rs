//! The README's commands, so that CI runs what the README says and the two cannot drift apart.
//!
//! A command is the fenced block that follows its marker, a comment that stands alone on a line.

use anyhow::Context;

/// Where the commands stand.
pub const PATH: &str = "README.md";
/// Marks the command that runs the tests.
pub const TEST: &str = "<!-- test -->";
/// Marks the command that runs the demo.
pub const DEMO: &str = "<!-- demo -->";

/// What stands in the first fenced block after `marker`.
pub fn command(readme: &str, marker: &str) -> anyhow::Result<String> {
    let mut lines = readme.lines().map(str::trim_end).skip_while(|line| *line != marker).skip(1);
    lines
        .find(|line| !line.is_empty())
        .filter(|line| line.starts_with("```"))
        .with_context(|| format!("{PATH} has no fenced block right after a line `{marker}`"))?;
    let block: Vec<&str> = lines.take_while(|line| *line != "```").collect();
    anyhow::ensure!(block.iter().any(|line| !line.is_empty()), "{PATH}: the block after `{marker}` is empty");
    Ok(block.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_after_the_marker_is_the_command() {
        let readme =
            "```sh\nno\n```\n<!-- demo -->\n```sh\ndemo\n```\n<!-- test -->\n\n```sh\ncd x\ncargo test\n```\nmore\n";
        assert_eq!(command(readme, TEST).unwrap(), "cd x\ncargo test");
        assert_eq!(command(readme, DEMO).unwrap(), "demo");
    }

    #[test]
    fn a_missing_or_empty_block_is_an_error() {
        for readme in ["", "<!-- test -->\n", "<!-- test -->\ntext\n```\nx\n```\n", "<!-- test -->\n```\n```\n"] {
            assert!(command(readme, TEST).is_err(), "{readme:?}");
        }
    }
}
