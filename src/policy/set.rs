//! A policy set: catalog, rules and prepared facts of one version. Immutable; a reload makes another one.
//!
//! Two things make a decision cheap. Entities are built once for each identity and entitlement and kept. And for each
//! action and entitlement only those rules are evaluated whose scope can admit it, which changes nothing but the time:
//! Cedar finds the scope of every other rule false.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Entities, Entity, EntityUid, PolicySet as CedarSet, Request, Schema,
};
use lru::LruCache;

use super::{
    action::Action,
    catalog,
    declared::Declared,
    facts::{FactError, Vocabulary},
    files::Files,
    problem::{LoadError, Place, Problem},
    rules::{self, Rule},
    targets::TargetDirectory,
};
use crate::domain::{
    capability::Description,
    catalog::{Catalog, Entitlement},
    decision::{Inputs, Reason},
    id::IdentityId,
    identity::Subject,
};

/// Identities whose entities are kept.
const KEPT_IDENTITIES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2_047);
/// Entitlements whose entities are kept for each of them.
const KEPT_ENTITLEMENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);

/// Catalog and rules of one version.
pub struct PolicySet {
    version: String,
    catalog: Catalog,
    pub(super) rules: Vec<Rule>,
    pub(super) schema: Schema,
    pub(super) files: Files,
    vocabulary: Vocabulary,
    /// By `@id`: where in `rules`.
    by_id: HashMap<String, usize>,
    slots: HashMap<Arc<str>, Slot>,
    authorizer: Authorizer,
    kept: Mutex<LruCache<IdentityId, Arc<Prepared>>>,
}

/// An entitlement, ready to be decided on.
pub(super) struct Slot {
    pub entitlement: Arc<Entitlement>,
    pub uid: EntityUid,
    pub target: EntityUid,
    entities: [Entity; 2],
    programs: HashMap<Action, Arc<CedarSet>>,
}

/// An identity, ready to be decided on.
struct Prepared {
    subject: Subject,
    uid: EntityUid,
    entities: Entities,
    with: Mutex<LruCache<Arc<str>, Arc<Entities>>>,
}

/// One principal, entitlement and ask, ready for any question.
pub(super) struct Scene<'a> {
    slot: &'a Slot,
    principal: EntityUid,
    entities: Arc<Entities>,
    context: Context,
}

/// What Cedar said to one action.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub allowed: bool,
    pub errors: Vec<Reason>,
    pub reasons: Vec<Reason>,
    /// Places in the rules of the satisfied permits.
    pub permits: Vec<usize>,
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySet")
            .field("version", &self.version)
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

impl PolicySet {
    /// From files; everything that is wrong with them is in the error.
    pub fn build(files: Files, targets: &dyn TargetDirectory) -> Result<Self, LoadError> {
        let mut problems = Vec::new();
        let (catalog, descriptions) = catalog::parse(&files, targets, &mut problems);
        let schema = rules::schema(&files, &targets.declared(), &mut problems);
        let rules = schema.as_ref().map(|(s, _)| rules::parse(&files, s, &catalog, &mut problems)).unwrap_or_default();
        match schema {
            Some(schema) if problems.is_empty() => {
                Self::assemble(files, schema, catalog, rules, &descriptions).map_err(|p| LoadError::new(vec![p]))
            }
            _ => Err(LoadError::new(problems)),
        }
    }

    /// From parts that were read already.
    pub(super) fn assemble(
        files: Files,
        (schema, declared): (Schema, Declared),
        catalog: Catalog,
        rules: Vec<Rule>,
        descriptions: &BTreeMap<Arc<str>, Description>,
    ) -> Result<Self, Problem> {
        let shown = files.shown(super::files::SCHEMA);
        let wrong = |e: &dyn fmt::Display| {
            Place { file: &shown, text: "" }
                .whole(format!("schema and catalog do not fit: {e}"), "use the schema.cedarschema of this version")
        };
        let vocabulary = Vocabulary::new(declared).map_err(|e| wrong(&e))?;
        let mut shared: HashMap<Vec<usize>, Arc<CedarSet>> = HashMap::new();
        let mut slots = HashMap::new();
        for (id, entitlement) in &catalog.entitlements {
            let (uid, target) = (vocabulary.entitlement(id), vocabulary.target(&entitlement.target));
            let Some(description) = descriptions.get(&entitlement.target) else { continue };
            let entities = [
                vocabulary.entitlement_entity(entitlement).map_err(|e| wrong(&e))?,
                vocabulary.target_entity(&entitlement.target, description).map_err(|e| wrong(&e))?,
            ];
            Entities::from_entities(entities.clone(), Some(&schema)).map_err(|e| wrong(&e))?;
            let mut programs = HashMap::new();
            for action in Action::ALL {
                let admitted = |(_, r): &(usize, &Rule)| r.actions.contains(&action) && r.admits(&uid, &target);
                let chosen: Vec<usize> = rules.iter().enumerate().filter(admitted).map(|(i, _)| i).collect();
                let program = if let Some(program) = shared.get(&chosen) {
                    Arc::clone(program)
                } else {
                    let policies = chosen.iter().filter_map(|i| rules.get(*i)).map(|r| r.policy.clone());
                    let program = Arc::new(CedarSet::from_policies(policies).map_err(|e| wrong(&e))?);
                    shared.insert(chosen, Arc::clone(&program));
                    program
                };
                programs.insert(action, program);
            }
            let slot = Slot { entitlement: Arc::clone(entitlement), uid, target, entities, programs };
            slots.insert(Arc::clone(id), slot);
        }
        Ok(Self {
            version: files.version(),
            by_id: rules.iter().enumerate().map(|(i, r)| (r.id.clone(), i)).collect(),
            catalog,
            rules,
            schema,
            files,
            vocabulary,
            slots,
            authorizer: Authorizer::new(),
            kept: Mutex::new(LruCache::new(KEPT_IDENTITIES)),
        })
    }

    /// Short hash over the content of all files that decide; pinned on each request.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What can be granted.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The texts of all files that decide, by name.
    pub fn texts(&self) -> BTreeMap<String, String> {
        self.files.deciding().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    /// The rules, in the order of files and lines.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(super) fn slot(&self, id: &str) -> Option<&Slot> {
        self.slots.get(id)
    }

    /// Everything that the questions about one principal, entitlement and ask have in common.
    pub(super) fn scene<'a>(
        &self,
        principal: &Subject,
        slot: &'a Slot,
        inputs: &Inputs,
        about: Option<&Subject>,
    ) -> Result<Scene<'a>, FactError> {
        let prepared = self.prepared(principal)?;
        let entities = match about {
            None => prepared.with(slot)?,
            Some(subject) => Arc::new(self.approval_entities(&prepared, slot, subject)?),
        };
        let context = self.vocabulary.context(inputs, about)?;
        Ok(Scene { slot, principal: prepared.uid.clone(), entities, context })
    }

    /// Put one question to Cedar, with all rules that can have a say.
    pub(super) fn ask(&self, action: Action, scene: &Result<Scene<'_>, FactError>) -> Answer {
        let failed = |why: &dyn fmt::Display| Answer { errors: vec![Reason::error(action, why)], ..Answer::default() };
        match scene {
            Err(e) => failed(e),
            Ok(scene) => match scene.slot.programs.get(&action) {
                Some(program) => self.ask_only(program, action, scene).unwrap_or_else(|e| failed(&e)),
                None => failed(&"the action is unknown"),
            },
        }
    }

    /// The same with some of the rules.
    pub(super) fn ask_only(&self, program: &CedarSet, action: Action, scene: &Scene<'_>) -> Result<Answer, FactError> {
        let (principal, resource) = (scene.principal.clone(), scene.slot.uid.clone());
        let request = Request::new(principal, self.vocabulary.action(action), resource, scene.context.clone(), None)
            .map_err(|e| FactError::of(&e))?;
        let response = self.authorizer.is_authorized(&request, program, &scene.entities);
        let mut answer = Answer { allowed: response.decision() == CedarDecision::Allow, ..Answer::default() };
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            let policy = AsRef::<str>::as_ref(error.policy_id()).to_owned();
            answer.errors.push(Reason {
                action: action.as_str().to_owned(),
                policy,
                effect: "error".to_owned(),
                text: format!("the policy could not be evaluated, which denies: {}", error.inner()),
            });
        }
        answer.errors.sort_by(|a, b| a.policy.cmp(&b.policy));
        let mut places: Vec<usize> = Vec::new();
        for id in response.diagnostics().reason() {
            match self.by_id.get(AsRef::<str>::as_ref(id)) {
                Some(place) => places.push(*place),
                None => answer.errors.push(Reason::error(action, &"a policy without a name had a say")),
            }
        }
        places.sort_unstable();
        for place in places {
            let Some(rule) = self.rules.get(place) else { continue };
            let permits = rule.effect == cedar_policy::Effect::Permit;
            if permits {
                answer.permits.push(place);
            }
            answer.reasons.push(Reason {
                action: action.as_str().to_owned(),
                policy: rule.id.clone(),
                effect: if permits { "permit" } else { "forbid" }.to_owned(),
                text: rule.text(),
            });
        }
        answer.allowed &= answer.errors.is_empty();
        Ok(answer)
    }

    /// The principal's entities, from the kept ones if the subject is the very same.
    fn prepared(&self, subject: &Subject) -> Result<Arc<Prepared>, FactError> {
        let id = subject.identity.id;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(prepared) = kept.filter(|p| p.subject == *subject) {
            return Ok(prepared);
        }
        let entity = self.vocabulary.subject_entity(subject)?;
        let prepared = Arc::new(Prepared {
            subject: subject.clone(),
            uid: entity.uid(),
            entities: Entities::from_entities([entity], None).map_err(|e| FactError::of(&e))?,
            with: Mutex::new(LruCache::new(KEPT_ENTITLEMENTS)),
        });
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(id, Arc::clone(&prepared));
        Ok(prepared)
    }

    fn approval_entities(&self, approver: &Prepared, slot: &Slot, subject: &Subject) -> Result<Entities, FactError> {
        let entities = approver.with(slot)?;
        if self.vocabulary.subject(subject) == approver.uid {
            return Ok(entities.as_ref().clone());
        }
        let subject = self.vocabulary.subject_entity(subject)?;
        entities.as_ref().clone().add_entities([subject], None).map_err(|e| FactError::of(&e))
    }
}

impl Prepared {
    /// Principal, entitlement and target.
    fn with(&self, slot: &Slot) -> Result<Arc<Entities>, FactError> {
        let mut with = self.with.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entities) = with.get(&slot.entitlement.id) {
            return Ok(Arc::clone(entities));
        }
        let entities = self.entities.clone().add_entities(slot.entities.clone(), None);
        let entities = Arc::new(entities.map_err(|e| FactError::of(&e))?);
        with.put(Arc::clone(&slot.entitlement.id), Arc::clone(&entities));
        Ok(entities)
    }
}

impl Reason {
    /// Something went wrong, which denies.
    pub(super) fn error(action: Action, why: &dyn fmt::Display) -> Self {
        Self {
            action: action.as_str().to_owned(),
            policy: "evaluation".to_owned(),
            effect: "error".to_owned(),
            text: why.to_string(),
        }
    }

    /// A rule of the broker itself, which no policy can lift.
    pub(super) fn built_in(action: Action, rule: &str, text: impl Into<String>) -> Self {
        Self {
            action: action.as_str().to_owned(),
            policy: rule.to_owned(),
            effect: "forbid".to_owned(),
            text: text.into(),
        }
    }
}
