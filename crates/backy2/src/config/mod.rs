//! The configuration: what is in force, and where each value comes from.
//!
//! ```text
//!  defaults < /etc/backy2/backy2.toml < ~/.config/backy2/backy2.toml < environment < command line
//! ```
//!
//! With `-c FILE` that file stands in the place of both others. An unknown key is an error: it may be a misspelt one
//! that somebody relies on.

mod file;
mod keys;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use self::keys::{KEYS, Key};
pub use self::values::{Given, Values};
use crate::exit::Failure;

/// Where a value comes from; later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// The file for the whole machine, and the line in it.
    SystemFile(PathBuf, usize),
    /// The file of the user, or that of `-c`, and the line in it.
    UserFile(PathBuf, usize),
    /// An environment variable.
    Environment(&'static str),
    /// An option.
    CommandLine,
}

impl Origin {
    /// Returns how strong the origin is: values of one strength stand side by side.
    pub fn strength(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::SystemFile(..) => 1,
            Origin::UserFile(..) => 2,
            Origin::Environment(_) => 3,
            Origin::CommandLine => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::SystemFile(path, line) | Origin::UserFile(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// What the configuration is made of, besides the files.
#[derive(Debug)]
pub struct Surroundings {
    /// The file of `-c`, if it was given.
    pub file: Option<PathBuf>,
    /// The value of `--repository`, if it was given.
    pub repository: Option<String>,
    /// The environment; a test brings its own.
    pub environment: BTreeMap<String, String>,
    /// Whether the user is root.
    pub is_root: bool,
}

/// What is in force.
#[derive(Debug)]
pub struct Config {
    /// The values.
    pub values: Values,
    origins: BTreeMap<&'static str, Origin>,
}

impl Config {
    /// Reads everything that there is.
    ///
    /// # Errors
    /// A usage failure that names file and line, or the variable.
    pub fn load(surroundings: &Surroundings) -> Result<Config, Failure> {
        let values = Values { state_dir: default_state_dir(surroundings), ..Values::default() };
        let mut config = Config { values, origins: BTreeMap::new() };
        match &surroundings.file {
            Some(path) => config.read_file(path, Origin::UserFile, true)?,
            None => {
                config.read_file(Path::new("/etc/backy2/backy2.toml"), Origin::SystemFile, false)?;
                if let Some(path) = user_file(surroundings) {
                    config.read_file(&path, Origin::UserFile, false)?;
                }
            }
        }
        for key in KEYS {
            let Some(variable) = key.variable else { continue };
            if let Some(value) = surroundings.environment.get(variable).filter(|value| !value.is_empty()) {
                config.set(key, &Given::Typed(value), Origin::Environment(variable))?;
            }
        }
        if let Some(url) = &surroundings.repository {
            config.set_repository(url)?;
        }
        Ok(config)
    }

    /// Takes a repository that a command names.
    pub fn set_repository(&mut self, url: &str) -> Result<(), Failure> {
        self.set(keys::repository(), &Given::Typed(url), Origin::CommandLine)
    }

    /// Returns where the value of a key comes from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    fn read_file(
        &mut self,
        path: &Path,
        origin: fn(PathBuf, usize) -> Origin,
        must_exist: bool,
    ) -> Result<(), Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(()),
            Err(error) => {
                let message = format!("read the configuration {}: {error}", path.display());
                return Err(Failure::usage(message).hint("`backy2 -c FILE` names another one"));
            }
        };
        file::read(&text, &mut |key, value, line| self.set(key, value, origin(path.to_owned(), line)))
            .map_err(|problem| problem.failure(path))
    }

    fn set(&mut self, key: &'static Key, value: &Given<'_>, origin: Origin) -> Result<(), Failure> {
        (key.take)(&mut self.values, value)
            .map_err(|error| Failure::usage(format!("{origin}: {}: {error}", key.name)))?;
        self.origins.insert(key.name, origin);
        Ok(())
    }
}

fn user_file(surroundings: &Surroundings) -> Option<PathBuf> {
    home_or(surroundings, "XDG_CONFIG_HOME", ".config").map(|folder| folder.join("backy2/backy2.toml"))
}

fn default_state_dir(surroundings: &Surroundings) -> PathBuf {
    let of_machine = || PathBuf::from("/var/lib/backy2");
    if surroundings.is_root {
        return of_machine();
    }
    home_or(surroundings, "XDG_STATE_HOME", ".local/state").map_or_else(of_machine, |folder| folder.join("backy2"))
}

fn home_or(surroundings: &Surroundings, variable: &str, folder: &str) -> Option<PathBuf> {
    let absolute = |name: &str| surroundings.environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(file: Option<&Path>, environment: &[(&str, &str)]) -> Surroundings {
        Surroundings {
            file: file.map(Path::to_owned),
            repository: None,
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            is_root: false,
        }
    }

    fn load(text: &str) -> Result<Config, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&surroundings(Some(&path), &[]))
    }

    fn problem(text: &str) -> String {
        format!("{:?}", load(text).unwrap_err())
    }

    #[test]
    fn later_origins_win_and_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backy2/backy2.toml");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "repository = \"/of/file\"\n\nworkers = 3\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let mut around = surroundings(None, &[("XDG_CONFIG_HOME", home), ("BACKY2_REPOSITORY", "/of/env")]);
        let config = Config::load(&around).unwrap();
        assert_eq!(config.values.repository.as_deref(), Some("/of/env"));
        assert_eq!(*config.origin("repository"), Origin::Environment("BACKY2_REPOSITORY"));
        assert_eq!(*config.origin("workers"), Origin::UserFile(path.clone(), 3));
        assert_eq!(*config.origin("block_size"), Origin::Default);
        around.repository = Some("/of/option".to_owned());
        let config = Config::load(&around).unwrap();
        assert_eq!(config.values.repository.as_deref(), Some("/of/option"));
        assert_eq!(*config.origin("repository"), Origin::CommandLine);
    }

    #[test]
    fn problems_name_file_line_and_the_nearest_key() {
        assert!(problem("repositry = \"/x\"").contains("c.toml:1"));
        assert!(problem("\n\nrepositry = \"/x\"").contains("c.toml:3"));
        assert!(problem("repositry = \"/x\"").contains("did you mean repository?"));
        assert!(problem("utterly_else = 1").contains("config show"));
        assert!(problem("workers = 1\nworkers = 2").contains("c.toml:2"));
        assert!(problem("workers = \"many\"").contains("workers"));
        assert!(problem("compression_level = 20").contains("-7 to 19"));
        assert!(problem("argon_memory_mib = 7").contains("8"));
        assert!(problem("what is this").contains("c.toml:1"));
        assert!(problem("block_size = \"3K\"").contains("power of two"));
        assert!(problem("workers = [1]").contains("workers"));
        assert!(problem("[repository]\nurl = 1").contains("repository"));
    }

    #[test]
    fn secrets_are_taken_and_never_shown() {
        let text =
            "s3_secret_access_key = \"hush\"\ns3_session_token = \"hush\"\ns3_endpoint = \"https://u:hush@host\"";
        let config = load(text).unwrap();
        let shown: Vec<String> = KEYS.iter().map(|key| (key.show)(&config.values)).collect();
        assert!(config.values.s3_secret_access_key.is_some());
        assert!(!format!("{shown:?} {:?}", config.values.s3_secret_access_key).contains("hush"), "{shown:?}");
        assert!(!problem("s3_secret_access_key = 12345678").contains("12345678"));
    }

    #[test]
    fn relative_paths_are_of_the_folder_of_who_types_them() {
        assert!(problem("repository = \"backup\"").contains("absolute"));
        assert!(problem("key_file = \"key\"").contains("absolute"));
        let variables = [("BACKY2_REPOSITORY", "backup"), ("BACKY2_KEY_FILE", "key"), ("HOME", "/nowhere")];
        let values = Config::load(&surroundings(None, &variables)).unwrap().values;
        let here = std::env::current_dir().unwrap();
        assert_eq!(values.repository, Some(here.join("backup").display().to_string()));
        assert_eq!(values.key_file, Some(here.join("key")));
    }

    #[test]
    fn a_missing_file_matters_only_if_it_was_named() {
        assert!(Config::load(&surroundings(Some(Path::new("/nowhere/c.toml")), &[])).is_err());
        assert!(Config::load(&surroundings(None, &[("HOME", "/nowhere")])).is_ok());
    }

    #[test]
    fn state_has_its_place_for_root_and_for_others() {
        let mut around = surroundings(None, &[("HOME", "/home/u")]);
        assert_eq!(default_state_dir(&around), Path::new("/home/u/.local/state/backy2"));
        around.environment.insert("XDG_STATE_HOME".to_owned(), "/s".to_owned());
        assert_eq!(default_state_dir(&around), Path::new("/s/backy2"));
        around.is_root = true;
        assert_eq!(default_state_dir(&around), Path::new("/var/lib/backy2"));
    }

    /// Every key stands in the example as `#key = default`, so that what people read is what they have.
    #[test]
    fn the_example_has_every_key_with_its_default() {
        let example = include_str!("../../../../etc/backy2.toml");
        let is_setting = |line: &&str| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ");
        let lines: Vec<&str> = example.lines().filter(is_setting).map(|line| &line[1..]).collect();
        let names: Vec<&str> = lines.iter().filter_map(|line| line.split(" = ").next()).collect();
        assert_eq!(names, KEYS.iter().map(|key| key.name).collect::<Vec<_>>());
        let config = load(&lines.join("\n")).unwrap();
        let state_dir = config.values.state_dir.clone();
        assert_eq!(config.values, Values { state_dir, ..Values::default() });
        load(example).unwrap();
    }
}
