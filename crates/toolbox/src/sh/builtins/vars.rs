//! Variables, positions and options.
use super::super::parser::is_name;
use super::super::{Flow, Shell};
use super::{print, quoted};

/// Marks variables; the assignment, if there is one, comes first.
fn mark(
    shell: &mut Shell,
    args: &[String],
    shown: fn(&super::Variable) -> bool,
    mark: fn(&mut super::Variable),
) -> Result<i32, Flow> {
    let names: Vec<&String> = args[1..].iter().filter(|arg| *arg != "-p" && *arg != "--").collect();
    if names.is_empty() {
        let mut text = String::new();
        for (name, variable) in shell.variables.iter().filter(|(_, v)| shown(v)) {
            text += &match &variable.value {
                Some(value) => format!("{} {name}={}\n", args[0], quoted(value)),
                None => format!("{} {name}\n", args[0]),
            };
        }
        return print(&text);
    }
    for arg in names {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg.as_str(), None),
        };
        if !is_name(name) {
            return Err(Flow::Fail(format!("{}: {name}: bad variable name", args[0])));
        }
        if let Some(value) = value {
            shell.set(name, value.to_owned())?;
        }
        mark(shell.variables.entry(name.to_owned()).or_default());
    }
    Ok(0)
}

pub(super) fn export(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    if args.get(1).is_some_and(|arg| arg == "-n") {
        for name in &args[2..] {
            if let Some(variable) = shell.variables.get_mut(name) {
                variable.exported = false;
            }
        }
        return Ok(0);
    }
    mark(shell, args, |v| v.exported, |v| v.exported = true)
}

pub(super) fn readonly(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    mark(shell, args, |v| v.read_only, |v| v.read_only = true)
}

pub(super) fn local(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    for arg in &args[1..] {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg.as_str(), None),
        };
        let before = shell.variables.get(name).cloned();
        let Some(hidden) = shell.hidden.last_mut() else {
            return Err(Flow::Fail("local: not in a function".to_owned()));
        };
        hidden.push((name.to_owned(), before));
        match value {
            Some(value) => shell.set(name, value.to_owned())?,
            None => drop(shell.variables.remove(name)),
        }
    }
    Ok(0)
}

pub(super) fn unset(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let mut functions = false;
    for arg in &args[1..] {
        match arg.as_str() {
            "-f" => functions = true,
            "-v" => functions = false,
            name if functions => drop(shell.functions.remove(name)),
            name => {
                if shell.variables.get(name).is_some_and(|v| v.read_only) {
                    return Err(Flow::Fail(format!("unset: {name}: is read only")));
                }
                shell.variables.remove(name);
            }
        }
    }
    Ok(0)
}

pub(super) fn set(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    if args.len() == 1 {
        let lines = shell.variables.iter().filter_map(|(name, variable)| {
            Some(format!("{name}={}\n", quoted(variable.value.as_ref()?)))
        });
        return print(&lines.collect::<String>());
    }
    let mut rest = args[1..].iter();
    while let Some(arg) = rest.next() {
        let (on, letters) = match (arg.strip_prefix('-'), arg.strip_prefix('+')) {
            (Some("-"), _) => {
                shell.parameters = rest.cloned().collect();
                return Ok(0);
            }
            (Some(letters), _) if !letters.is_empty() => (true, letters),
            (_, Some(letters)) if !letters.is_empty() => (false, letters),
            _ => {
                shell.parameters = std::iter::once(arg).chain(rest).cloned().collect();
                return Ok(0);
            }
        };
        for letter in letters.chars() {
            let option = match letter {
                'o' => match rest.next() {
                    Some(name) => shell.options.by_name(name),
                    None => return Ok(0),
                },
                letter => shell.options.by_letter(letter),
            };
            match option {
                Some(option) => *option = on,
                None => return Err(Flow::Fail(format!("set: bad option '{arg}'"))),
            }
        }
    }
    Ok(0)
}

pub(super) fn shift(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let n = super::parse_number(shell, args)?.unwrap_or(1);
    match usize::try_from(n).ok().filter(|n| *n <= shell.parameters.len()) {
        Some(n) => {
            shell.parameters.drain(..n);
            Ok(0)
        }
        None => Err(Flow::Fail("shift: can't shift that many".to_owned())),
    }
}

pub(super) fn let_(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let mut value = 0;
    for text in &args[1..] {
        value = shell.arithmetic(text)?;
    }
    Ok(i32::from(value == 0))
}

/// `getopts LETTERS NAME [ARGUMENT…]`. `OPTIND` counts words, `_OPTPOS` letters within one.
pub(super) fn getopts(shell: &mut Shell, args: &[String]) -> Result<i32, Flow> {
    let [_, letters, name, given @ ..] = args else {
        return Err(Flow::Fail("getopts: usage: getopts LETTERS NAME [ARGUMENT]".to_owned()));
    };
    let words = if given.is_empty() { shell.parameters.clone() } else { given.to_vec() };
    let number = |shell: &Shell, name: &str| shell.get(name).and_then(|v| v.parse::<usize>().ok());
    let mut index = number(shell, "OPTIND").unwrap_or(1).max(1);
    let mut position = number(shell, "_OPTPOS").unwrap_or(1).max(1);
    let silent = letters.starts_with(':');
    let word: Vec<char> = words.get(index - 1).map(|w| w.chars().collect()).unwrap_or_default();
    let over = position == 1 && (word.len() < 2 || word[0] != '-');
    if over || word == ['-', '-'] {
        if word == ['-', '-'] {
            shell.set("OPTIND", (index + 1).to_string())?;
        }
        shell.set(name, "?".to_owned())?;
        return Ok(1);
    }
    let letter = word.get(position).copied().unwrap_or('?');
    let place = letters.find(letter).filter(|_| letter != ':');
    position += 1;
    let mut next_word = position >= word.len();
    let mut found = letter.to_string();
    shell.variables.remove("OPTARG");
    match place {
        None => {
            found = "?".to_owned();
            if silent {
                shell.set("OPTARG", letter.to_string())?;
            } else {
                shell.complain(&format!("Illegal option -{letter}"));
            }
        }
        Some(i) if letters[i + letter.len_utf8()..].starts_with(':') => {
            let value = if next_word {
                index += 1;
                words.get(index - 1).cloned()
            } else {
                Some(word[position..].iter().collect())
            };
            next_word = true;
            match value {
                Some(value) => shell.set("OPTARG", value)?,
                None if silent => {
                    found = ":".to_owned();
                    shell.set("OPTARG", letter.to_string())?;
                }
                None => {
                    found = "?".to_owned();
                    shell.complain(&format!("No arg for -{letter} option"));
                }
            }
        }
        Some(_) => {}
    }
    if next_word {
        index += 1;
        position = 1;
    }
    shell.set("OPTIND", index.to_string())?;
    shell.set("_OPTPOS", position.to_string())?;
    shell.set(name, found)?;
    Ok(0)
}
