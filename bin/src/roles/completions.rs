//! The completions role prints a script that completes emissary's command line in bash, zsh or fish. The table of flags is its source.
//!
//! Enters: the shell's name. Leaves: the script on stdout. Refuses: another shell.

use super::request::Shell;
use crate::flags;
use crate::report::output;

/// Prints the script for a shell.
#[cold]
pub(crate) fn completions(shell: Shell) -> u8 {
    let mut out = match shell {
        Shell::Bash => b"_emissary() {\n  local words cur=${COMP_WORDS[COMP_CWORD]}\n  case ${COMP_WORDS[1]} in\n".to_vec(),
        Shell::Zsh => b"#compdef emissary\n_emissary() {\n  case $words[2] in\n".to_vec(),
        Shell::Fish => Vec::new(),
    };
    let all = flags::SUBCOMMANDS.as_bytes();
    for (at, name) in all.split(|&byte| byte == b' ').enumerate() {
        out.extend(match shell {
            Shell::Bash => [b"    ", name, b") words=\""].concat(),
            Shell::Zsh => [b"    ", name, b") compadd --"].concat(),
            Shell::Fish => [b"complete -c emissary -n __fish_use_subcommand -a ", name, b"\n"].concat(),
        });
        let roles = flags::roles_of(at);
        for [flag, value, help] in flags::each(roles, true).chain(flags::each(roles, false)) {
            if shell != Shell::Fish {
                out.extend([b" ", flag].concat());
                continue;
            }
            let (kind, word): (&[u8], _) = flag.strip_prefix(b"--").map_or((b" -s ", &flag[1..]), |long| (b" -l ", long));
            let value: &[u8] = if value.is_empty() { b"" } else { b" -r" };
            // In double quotes, a backtick is an ordinary letter for fish.
            let start = b"complete -c emissary -n '__fish_seen_subcommand_from ";
            out.extend([start, name, b"'", kind, word, value, b" -d \"", help, b"\"\n"].concat());
        }
        match shell {
            Shell::Bash => out.extend_from_slice(b"\";;\n"),
            Shell::Zsh => out.extend_from_slice(b";;\n"),
            Shell::Fish => {}
        }
    }
    match shell {
        Shell::Bash => {
            let end = b"\";;\n  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o default -F _emissary emissary\n";
            out.extend([b"    *) words=\"", all, end].concat());
        }
        Shell::Zsh => out.extend([b"    *) compadd -- ", all, b";;\n  esac\n  _files\n}\n_emissary \"$@\"\n"].concat()),
        Shell::Fish => {}
    }
    output::print(&out, 0)
}
