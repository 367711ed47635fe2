//! The template: what the workflow asks of this step, as a view over its JSON bytes.
//!
//! Enters: the template file. Leaves: iterators over parameters, artifacts, containers, mounts and sidecars, of any
//! number, their strings undecoded until they are used. Refuses: what is not JSON, and a field that is used here and has another
//! type than the protocol gives it. Fields that are not used here are skipped.

use crate::buf::{Writer, display_by_describe};
use crate::json::{self, Elements, JsonError, Str, Value};
use crate::layout;
use crate::time;

/// Why a template is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateError {
    /// It is not JSON.
    Json(JsonError),
    /// A field has another type than the protocol gives it.
    Type {
        /// The field, `[]` for each element of a list.
        field: &'static str,
        /// What it is to be.
        want: &'static str,
        /// Bytes before the value that stands there.
        offset: usize,
    },
}

impl TemplateError {
    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        match self {
            Self::Json(error) => error.describe(out),
            Self::Type { field, want, offset } => {
                out.text(field).text(" is not ").text(want).text(" at byte ").decimal(*offset as u64);
            }
        }
    }
}

display_by_describe!(TemplateError);

/// An output parameter with a path.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// The file that holds its value.
    pub path: Str<'a>,
    /// Its value where that file is missing.
    pub default: Option<Str<'a>>,
}

/// How the wait side wants an artifact packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Nothing is said.
    Default,
    /// `archive.tar.compressionLevel`, 0 to 9.
    Level(u8),
    /// `archive.none` or `archive.zip`: the wait side unpacks it at once.
    Unpacked,
}

/// An artifact with a path.
#[derive(Debug, Clone, Copy)]
pub struct Artifact<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// The file or folder.
    pub path: Str<'a>,
    /// How it is packed.
    pub packing: Packing,
}

/// A container set's retry strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// Milliseconds between two.
    pub pause_ms: u64,
}

/// A checked template.
#[derive(Debug, Clone, Copy)]
pub struct Template<'a> {
    root: Value<'a>,
}

/// A step of a path through objects, checked for its type.
fn object<'a>(value: Value<'a>, name: &str, field: &'static str) -> Result<Option<Value<'a>>, TemplateError> {
    typed(value.get(name), &Value::is_object, field, "an object")
}

fn list<'a>(value: Value<'a>, name: &str, field: &'static str) -> Result<Option<Value<'a>>, TemplateError> {
    typed(value.get(name), &Value::is_array, field, "an array")
}

fn string<'a>(value: Value<'a>, name: &str, field: &'static str) -> Result<Option<Value<'a>>, TemplateError> {
    typed(value.get(name), &|value| value.as_str().is_some(), field, "a string")
}

fn typed<'a>(
    value: Option<Value<'a>>,
    is: &dyn Fn(&Value<'a>) -> bool,
    field: &'static str,
    want: &'static str,
) -> Result<Option<Value<'a>>, TemplateError> {
    match value {
        Some(value) if !is(&value) => Err(TemplateError::Type { field, want, offset: value.offset() }),
        other => Ok(other),
    }
}

/// Checks that each element of a list is an object, and hands it on.
fn each_object<'a>(
    list: Option<Value<'a>>,
    field: &'static str,
    check: &dyn Fn(Value<'a>) -> Result<(), TemplateError>,
) -> Result<(), TemplateError> {
    for element in list.map_or(Elements::NONE, |list| list.elements()) {
        if !element.is_object() {
            return Err(TemplateError::Type { field, want: "an object", offset: element.offset() });
        }
        check(element)?;
    }
    Ok(())
}

impl<'a> Template<'a> {
    /// Checks a whole template.
    ///
    /// # Errors
    /// [`TemplateError::Json`] where it is not JSON, [`TemplateError::Type`] where a field that is used has another type.
    pub fn parse(document: &'a [u8]) -> Result<Self, TemplateError> {
        let root = json::parse(document).map_err(TemplateError::Json)?;
        if !root.is_object() {
            return Err(TemplateError::Type { field: "the template", want: "an object", offset: root.offset() });
        }
        if let Some(outputs) = object(root, "outputs", "outputs")? {
            each_object(list(outputs, "parameters", "outputs.parameters")?, "outputs.parameters[]", &|parameter| {
                string(parameter, "name", "outputs.parameters[].name")?;
                if let Some(from) = object(parameter, "valueFrom", "outputs.parameters[].valueFrom")? {
                    string(from, "path", "outputs.parameters[].valueFrom.path")?;
                }
                Ok(())
            })?;
            each_object(list(outputs, "artifacts", "outputs.artifacts")?, "outputs.artifacts[]", &check_artifact)?;
        }
        if let Some(inputs) = object(root, "inputs", "inputs")? {
            each_object(list(inputs, "artifacts", "inputs.artifacts")?, "inputs.artifacts[]", &check_artifact)?;
        }
        for (name, field) in [("container", "container"), ("script", "script"), ("containerSet", "containerSet")] {
            if let Some(holder) = object(root, name, field)? {
                each_object(list(holder, "volumeMounts", "volumeMounts")?, "volumeMounts[]", &|mount| {
                    string(mount, "mountPath", "volumeMounts[].mountPath").map(drop)
                })?;
            }
        }
        if let Some(set) = object(root, "containerSet", "containerSet")? {
            each_object(list(set, "containers", "containerSet.containers")?, "containerSet.containers[]", &|container| {
                check_container_name(container, "containerSet.containers[].name")?;
                let field = "containerSet.containers[].dependencies[]";
                for dependency in
                    list(container, "dependencies", "containerSet.containers[].dependencies")?.iter().flat_map(Value::elements)
                {
                    check_name(dependency, field)?;
                }
                Ok(())
            })?;
            check_retry(set)?;
        }
        each_object(list(root, "sidecars", "sidecars")?, "sidecars[]", &|sidecar| check_container_name(sidecar, "sidecars[].name"))?;
        if let Some(location) = object(root, "archiveLocation", "archiveLocation")? {
            typed(location.get("archiveLogs"), &|value| value.as_bool().is_some(), "archiveLocation.archiveLogs", "true or false")?;
        }
        Ok(Self { root })
    }

    fn at(&self, path: &[&str]) -> Option<Value<'a>> {
        path.iter().try_fold(self.root, |value, name| value.get(name))
    }

    fn list_at(&self, path: &[&str]) -> Elements<'a> {
        self.at(path).map_or(Elements::NONE, |list| list.elements())
    }

    /// Output parameters that are read from a path.
    pub fn output_parameters(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        self.list_at(&["outputs", "parameters"]).filter_map(|parameter| {
            let from = parameter.get("valueFrom")?;
            Some(Parameter {
                name: parameter.get("name")?.as_str()?,
                path: from.get("path")?.as_str()?,
                default: from.get("default").and_then(|default| default.as_str()),
            })
        })
    }

    /// Output artifacts that have a path.
    pub fn output_artifacts(&self) -> impl Iterator<Item = Artifact<'a>> + use<'a> {
        self.list_at(&["outputs", "artifacts"]).filter_map(artifact)
    }

    /// Input artifacts that have a path.
    pub fn input_artifacts(&self) -> impl Iterator<Item = Artifact<'a>> + use<'a> {
        self.list_at(&["inputs", "artifacts"]).filter_map(artifact)
    }

    /// Mount paths of the main containers' volumes.
    pub fn mount_paths(&self) -> impl Iterator<Item = Str<'a>> + use<'a> {
        let root = self.root;
        ["container", "script", "containerSet"]
            .into_iter()
            .filter_map(move |holder| root.get(holder)?.get("volumeMounts"))
            .flat_map(|mounts| mounts.elements())
            .filter_map(|mount| mount.get("mountPath")?.as_str())
    }

    /// Whether a cleaned `path` lies on a volume mount. `room` holds one mount path at a time; a mount path that is longer than
    /// `room` cannot hold `path`, which fitted a buffer of its own.
    #[must_use]
    pub fn is_on_mount(&self, path: &[u8], room: &mut [u8]) -> bool {
        self.mount_paths().any(|mount| mount.decode(room).is_ok_and(|mount| layout::is_inside(path, mount)))
    }

    /// Names of the container set's containers; nothing where the template has no set.
    pub fn container_names(&self) -> impl Iterator<Item = Str<'a>> + use<'a> {
        self.list_at(&["containerSet", "containers"]).filter_map(|container| container.get("name")?.as_str())
    }

    /// Names of the containers that the one called `name` waits for.
    pub fn dependencies(&self, name: &'a [u8]) -> impl Iterator<Item = Str<'a>> + use<'a> {
        self.list_at(&["containerSet", "containers"])
            .filter(move |container| container.get("name").and_then(|name| name.as_str()).is_some_and(|own| own.is(name)))
            .filter_map(|container| container.get("dependencies"))
            .flat_map(|dependencies| dependencies.elements())
            .filter_map(|dependency| dependency.as_str())
    }

    /// Whether the container called `name` is a sidecar.
    #[must_use]
    pub fn is_sidecar(&self, name: &[u8]) -> bool {
        self.list_at(&["sidecars"]).any(|sidecar| sidecar.get("name").and_then(|name| name.as_str()).is_some_and(|own| own.is(name)))
    }

    /// Whether the logs are to be archived, and so captured.
    #[must_use]
    pub fn archives_logs(&self) -> bool {
        self.at(&["archiveLocation", "archiveLogs"]).and_then(|value| value.as_bool()).unwrap_or(false)
    }

    /// The container set's retry strategy: one attempt where there is none.
    #[must_use]
    pub fn retry(&self) -> Retry {
        let strategy = self.at(&["containerSet", "retryStrategy"]);
        let attempts = strategy.and_then(|strategy| strategy.get("retries")).and_then(attempts).unwrap_or(1);
        let pause_ms = strategy
            .and_then(|strategy| strategy.get("duration")?.as_str())
            .and_then(|duration| time::parse_duration(duration.decode(&mut [0; 64]).ok()?).ok())
            .and_then(|nanoseconds| u64::try_from(nanoseconds).ok())
            .unwrap_or(0)
            .div_ceil(1_000_000);
        Retry { attempts: attempts.max(1), pause_ms }
    }
}

/// `retries`: a number, or digits in a string. `None` where it is neither.
fn attempts(retries: Value<'_>) -> Option<u32> {
    let mut room = [0; 24];
    let digits = match (retries.as_number(), retries.as_str()) {
        (Some(number), _) => number,
        (None, Some(string)) => string.decode(&mut room).ok()?.trim_ascii(),
        (None, None) => return None,
    };
    if let Some(digits) = digits.strip_prefix(b"-") {
        return crate::exit::parse_decimal(digits).map(|_| 0);
    }
    crate::exit::parse_decimal(digits).map(|attempts| u32::try_from(attempts).unwrap_or(u32::MAX))
}

fn check_retry(set: Value<'_>) -> Result<(), TemplateError> {
    let Some(strategy) = object(set, "retryStrategy", "containerSet.retryStrategy")? else { return Ok(()) };
    typed(
        strategy.get("retries"),
        &|value| attempts(*value).is_some(),
        "containerSet.retryStrategy.retries",
        "a whole number, or digits in a string",
    )?;
    typed(
        strategy.get("duration"),
        &|value| value.as_str().is_some_and(|text| text.decode(&mut [0; 64]).is_ok_and(|text| time::parse_duration(text).is_ok())),
        "containerSet.retryStrategy.duration",
        "a duration such as 1m30s",
    )
    .map(drop)
}

/// A container's name becomes a folder's name: refused where it cannot.
fn check_container_name(container: Value<'_>, field: &'static str) -> Result<(), TemplateError> {
    container.get("name").map_or(Ok(()), |name| check_name(name, field))
}

fn check_name(name: Value<'_>, field: &'static str) -> Result<(), TemplateError> {
    let mut room = [0; crate::limits::CONTAINER_NAME_BYTES];
    let fine = name.as_str().is_some_and(|text| text.decode(&mut room).is_ok_and(|text| layout::check_name(text).is_ok()));
    if fine { Ok(()) } else { Err(TemplateError::Type { field, want: "a container's name", offset: name.offset() }) }
}

fn check_artifact(artifact: Value<'_>) -> Result<(), TemplateError> {
    string(artifact, "name", "artifacts[].name")?;
    string(artifact, "path", "artifacts[].path")?;
    let Some(archive) = object(artifact, "archive", "artifacts[].archive")? else { return Ok(()) };
    let Some(tar) = object(archive, "tar", "artifacts[].archive.tar")? else { return Ok(()) };
    typed(
        tar.get("compressionLevel"),
        &|level| compression_level(*level).is_some(),
        "artifacts[].archive.tar.compressionLevel",
        "a whole number from -1 to 9",
    )
    .map(drop)
}

/// `compressionLevel` as zlib has it: 0 to 9, or -1 for the default, which is `Some(None)`.
fn compression_level(level: Value<'_>) -> Option<Option<u8>> {
    match level.as_number()? {
        b"-1" => Some(None),
        digits => crate::exit::parse_decimal(digits).and_then(|level| u8::try_from(level).ok()).filter(|level| *level <= 9).map(Some),
    }
}

fn artifact(value: Value<'_>) -> Option<Artifact<'_>> {
    let archive = value.get("archive");
    let packing = match archive {
        Some(archive) if archive.get("none").is_some() || archive.get("zip").is_some() => Packing::Unpacked,
        _ => archive
            .and_then(|archive| archive.get("tar")?.get("compressionLevel"))
            .and_then(compression_level)
            .flatten()
            .map_or(Packing::Default, Packing::Level),
    };
    Some(Artifact { name: value.get("name")?.as_str()?, path: value.get("path")?.as_str()?, packing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn text(value: Str<'_>) -> String {
        let mut room = [0xa5; 256];
        String::from_utf8(value.decode(&mut room).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_whole_template() {
        let document = br#"{"name":"x","metadata":{"a":[1,2.5e3,null,true,{"b":"\\\"}]"}]},
            "inputs":{"artifacts":[{"name":"in","path":"/in"}]},
            "container":{"volumeMounts":[{"name":"v","mountPath":"/data"}]},
            "script":{"volumeMounts":[{"mountPath":"/s"}]},
            "containerSet":{"volumeMounts":[{"mountPath":"/set"}],"containers":[{"name":"a"},{"name":"b","dependencies":["a"]}],
                "retryStrategy":{"retries":"2","duration":"10ms"}},
            "sidecars":[{"name":"side"}],"archiveLocation":{"archiveLogs":true},
            "outputs":{"parameters":[{"name":"p","valueFrom":{"path":"/tmp/p","default":"d"}},{"name":"q","valueFrom":{"expression":"1"}},{"name":"r","value":"v"}],
                "artifacts":[{"name":"t","path":"/t","archive":{"tar":{"compressionLevel":3}}},{"name":"n","path":"/n","archive":{"none":{}}},
                    {"name":"z","path":"/z","archive":{"zip":{}}},{"name":"d","path":"/d","archive":{"tar":{"compressionLevel":-1}}},{"name":"nowhere"}]}}"#;
        let template = Template::parse(document).unwrap();
        let parameters: Vec<_> = template.output_parameters().map(|p| (text(p.name), text(p.path), p.default.map(text))).collect();
        assert_eq!(parameters, [("p".into(), "/tmp/p".into(), Some("d".into()))]);
        let artifacts: Vec<_> = template.output_artifacts().map(|a| (text(a.name), text(a.path), a.packing)).collect();
        assert_eq!(
            artifacts,
            [
                ("t".into(), "/t".into(), Packing::Level(3)),
                ("n".into(), "/n".into(), Packing::Unpacked),
                ("z".into(), "/z".into(), Packing::Unpacked),
                ("d".into(), "/d".into(), Packing::Default)
            ]
        );
        assert_eq!(template.input_artifacts().map(|a| text(a.path)).collect::<Vec<_>>(), ["/in"]);
        assert_eq!(template.mount_paths().map(text).collect::<Vec<_>>(), ["/data", "/s", "/set"]);
        assert!(template.is_on_mount(b"/data/x", &mut [0; 16]));
        assert!(!template.is_on_mount(b"/data2", &mut [0; 16]));
        assert_eq!(template.container_names().map(text).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(template.dependencies(b"b").map(text).collect::<Vec<_>>(), ["a"]);
        assert_eq!(template.dependencies(b"a").count(), 0);
        assert!(template.is_sidecar(b"side") && !template.is_sidecar(b"a"));
        assert!(template.archives_logs());
        assert_eq!(template.retry(), Retry { attempts: 2, pause_ms: 10 });
    }

    #[test]
    fn nothing_and_nulls() {
        for document in [
            &b"{}"[..],
            br#"{"outputs":null,"inputs":{"artifacts":null},"sidecars":null,"containerSet":null,"archiveLocation":null,"container":null}"#,
        ] {
            let template = Template::parse(document).unwrap();
            assert_eq!(template.output_parameters().count() + template.output_artifacts().count() + template.container_names().count(), 0);
            assert!(!template.archives_logs());
            assert_eq!(template.retry(), Retry { attempts: 1, pause_ms: 0 });
        }
    }

    #[test]
    fn retries() {
        for (strategy, attempts, pause_ms) in [
            (r#"{"retries":0}"#, 1, 0),
            (r#"{"retries":"1"}"#, 1, 0),
            (r#"{"retries":-3}"#, 1, 0),
            (r#"{"retries":99999999999,"duration":"1h2m3.5s"}"#, u32::MAX, 3_723_500),
            (r#"{"duration":"1ns"}"#, 1, 1),
            (r#"{"duration":"-1s"}"#, 1, 0),
        ] {
            let document = std::format!("{{\"containerSet\":{{\"retryStrategy\":{strategy}}}}}");
            assert_eq!(Template::parse(document.as_bytes()).unwrap().retry(), Retry { attempts, pause_ms }, "{strategy}");
        }
    }

    #[test]
    fn wrong_types_are_named() {
        for (document, field) in [
            ("[]", "the template"),
            (r#"{"outputs":[]}"#, "outputs"),
            (r#"{"outputs":{"parameters":{}}}"#, "outputs.parameters"),
            (r#"{"outputs":{"parameters":[1]}}"#, "outputs.parameters[]"),
            (r#"{"outputs":{"parameters":[{"valueFrom":{"path":1}}]}}"#, "outputs.parameters[].valueFrom.path"),
            (r#"{"outputs":{"artifacts":[{"path":1}]}}"#, "artifacts[].path"),
            (r#"{"outputs":{"artifacts":[{"archive":{"tar":{"compressionLevel":10}}}]}}"#, "artifacts[].archive.tar.compressionLevel"),
            (r#"{"containerSet":{"containers":[{"name":"../x"}]}}"#, "containerSet.containers[].name"),
            (r#"{"containerSet":{"containers":[{"dependencies":[""]}]}}"#, "containerSet.containers[].dependencies[]"),
            (r#"{"containerSet":{"retryStrategy":{"retries":1.5}}}"#, "containerSet.retryStrategy.retries"),
            (r#"{"containerSet":{"retryStrategy":{"duration":"soon"}}}"#, "containerSet.retryStrategy.duration"),
            (r#"{"archiveLocation":{"archiveLogs":"yes"}}"#, "archiveLocation.archiveLogs"),
            (r#"{"sidecars":{}}"#, "sidecars"),
            (r#"{"container":{"volumeMounts":[{"mountPath":[]}]}}"#, "volumeMounts[].mountPath"),
        ] {
            match Template::parse(document.as_bytes()) {
                Err(TemplateError::Type { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{document}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_error_says_field_and_place() {
        let error = Template::parse(br#"{"outputs":{"parameters":{}}}"#).unwrap_err();
        assert_eq!(std::format!("{error}"), "outputs.parameters is not an array at byte 25");
    }
}
