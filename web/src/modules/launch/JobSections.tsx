import type { ReactNode } from "react";
import { useT, type Key } from "../../app/i18n";
import { Nested } from "../../ui/SchemaField";
import { SchemaFields } from "../../ui/SchemaFields";
import { SchemaTag } from "../../ui/SchemaUnion";
import { countChanged, fieldOf, isObject, memberOf, type Field, type Path, type Schema, type Values } from "../../ui/schema";
import { problemsAt, useForm } from "../../ui/schemaContext";

const TITLES: Record<string, Key> = {
  model: "launch.section.model",
  data: "launch.section.data",
  optim: "launch.section.optim",
  rollout: "launch.section.rollout",
  parallel: "launch.section.parallel",
  rewards: "launch.section.rewards",
  benchmark: "launch.section.benchmark",
  resources: "launch.section.resources",
  monitoring: "launch.section.monitoring",
};
const FIRST = ["model", "data"];

interface Props {
  root: Schema;
  value: unknown;
  path: Path;
}

/** One job in sections: what it is, the parts of its task, what it occupies and what is kept of it. */
export function JobSections({ root, value, path }: Props) {
  const t = useT();
  const values = isObject(value) ? value : {};
  const job = memberOf(root, root, values.kind);
  const task = job?.properties?.task ? fieldOf(job.properties.task, root) : null;
  const taskValues = isObject(values.task) ? values.task : {};
  const taskPath = [...path, "task"];
  const algorithm = task?.kind === "union" ? taskValues[task.tag] : undefined;
  const spec = task?.kind === "union" ? memberOf(task.schema, root, algorithm) : task?.schema;
  const taskParts = parts(spec, root);
  const jobParts = parts(job, root).filter((name) => name !== "task");
  const ownFields = ["kind", "task", "recipe", ...jobParts];
  const taskFields = [...(task?.kind === "union" ? [task.tag] : []), ...taskParts];
  const taskSection = (name: string) => <PartSection key={name} name={name} schema={spec?.properties?.[name] ?? {}} value={taskValues[name]} path={[...taskPath, name]} />;
  return (
    <>
      <Section title={t("launch.section.job")} numChanged={changedBeside(job, root, values, ownFields)} path={path}>
        <TagRow field={fieldOf(root, root)} value={value} path={path} without={["pipeline"]} />
        {task && <TagRow field={task} value={values.task} path={taskPath} />}
        {job && <SchemaFields schema={job} value={value} path={path} without={ownFields} />}
      </Section>
      {taskParts.filter((name) => FIRST.includes(name)).map(taskSection)}
      {spec && (
        <Section title={typeof algorithm === "string" ? t("launch.section.algorithm", { name: algorithm }) : t("launch.section.task")} numChanged={changedBeside(spec, root, taskValues, taskFields)} path={taskPath}>
          <SchemaFields schema={spec} value={values.task} path={taskPath} without={taskFields} />
        </Section>
      )}
      {taskParts.filter((name) => !FIRST.includes(name)).map(taskSection)}
      {jobParts.map((name) => <PartSection key={name} name={name} schema={job?.properties?.[name] ?? {}} value={values[name]} path={[...path, name]} />)}
    </>
  );
}

/** Names of the fields that are sections of their own. */
function parts(schema: Schema | undefined, root: Schema): string[] {
  return Object.entries(schema?.properties ?? {}).flatMap(([name, raw]) => {
    const field = fieldOf(raw, root);
    const hasParts = field.kind === "object" || field.kind === "union" || field.kind === "list";
    return hasParts && !field.isOptional ? [name] : [];
  });
}

function changedBeside(schema: Schema | undefined, root: Schema, values: Values, without: string[]): number {
  const fields = Object.entries(schema?.properties ?? {}).filter(([name]) => !without.includes(name));
  return fields.reduce((sum, [name, field]) => sum + countChanged(field, root, values[name]), 0);
}

function TagRow({ field, value, path, without }: { field: Field; value: unknown; path: Path; without?: string[] }) {
  if (field.kind !== "union") return null;
  return (
    <div className="schema-row">
      <span className="schema-name">{field.tag}</span>
      <div className="schema-value"><SchemaTag field={field} value={value} path={path} without={without} /></div>
    </div>
  );
}

function PartSection({ name, schema, value, path }: { name: string; schema: Schema; value: unknown; path: Path }) {
  const t = useT();
  const { root } = useForm();
  const title = TITLES[name];
  return (
    <Section title={title ? t(title) : name} numChanged={countChanged(schema, root, value)} path={path}>
      <Nested field={fieldOf(schema, root)} value={value} path={path} />
    </Section>
  );
}

function Section({ title, numChanged, path, children }: { title: string; numChanged: number; path: Path; children: ReactNode }) {
  const t = useT();
  const { problems } = useForm();
  return (
    <section className="launch-section" data-testid={`section-${path.join(".")}`}>
      <h2>
        {title}
        {numChanged > 0 && <span className="schema-count">{t("form.changed", { n: numChanged })}</span>}
      </h2>
      {problemsAt(problems, path, { deep: false }).map((problem) => (
        <div key={problem.message} className="schema-problem" role="alert" data-testid={`problem-${problem.path}`}>{problem.message}</div>
      ))}
      {children}
    </section>
  );
}
