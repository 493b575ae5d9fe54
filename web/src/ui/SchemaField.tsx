import { UndoOutlined } from "@ant-design/icons";
import { Button, Switch, Tooltip } from "antd";
import type { ReactNode } from "react";
import { useT } from "../app/i18n";
import { SchemaControl } from "./SchemaControl";
import { SchemaFields } from "./SchemaFields";
import { SchemaList } from "./SchemaList";
import { SchemaUnion } from "./SchemaUnion";
import { fieldOf, isChanged, isObject, resolved, type Field, type Path, type Schema } from "./schema";
import { problemsAt, useForm } from "./schemaContext";

interface Props {
  name: string;
  schema: Schema;
  value: unknown;
  path: Path;
  isRequired: boolean;
}

/** One field: its name and control, whether it is not the default and the way back, and what is wrong with it. */
export function SchemaField({ name, schema, value, path, isRequired }: Props) {
  const { root } = useForm();
  const field = fieldOf(schema, root);
  if (field.kind === "object" && Object.keys(field.schema.properties ?? {}).length === 0) return null;
  if (field.kind === "object" && field.isOptional) return <Optional name={name} field={field} value={value} path={path} />;
  if (field.kind === "object" || field.kind === "union" || field.kind === "list") {
    return (
      <>
        <Row name={name} schema={field.schema} value={undefined} path={path} isRequired={isRequired} />
        <div className="schema-inner"><Nested field={field} value={value} path={path} /></div>
      </>
    );
  }
  return (
    <Row name={name} schema={field.schema} value={value} path={path} isRequired={isRequired}>
      <SchemaControl field={field} value={value} path={path} />
    </Row>
  );
}

/** A field that has fields. */
export function Nested({ field, value, path }: { field: Field; value: unknown; path: Path }) {
  if (field.kind === "union") return <SchemaUnion field={field} value={value} path={path} />;
  if (field.kind === "list") return <SchemaList items={field.items} value={value} path={path} />;
  return <SchemaFields schema={field.schema} value={value} path={path} />;
}

/** An object that may be absent: a switch, and its fields when it is there. */
function Optional({ name, field, value, path }: { name: string; field: Field; value: unknown; path: Path }) {
  const { change } = useForm();
  const isOn = isObject(value);
  return (
    <>
      <Row name={name} schema={{ description: field.schema.description }} value={undefined} path={path} isRequired={false} isShallow>
        <Switch size="small" checked={isOn} aria-label={path.join(".")} onChange={(on) => change([{ path, value: on ? {} : undefined }])} data-testid={`field-${path.join(".")}`} />
      </Row>
      {isOn && <div className="schema-inner"><SchemaFields schema={field.schema} value={value} path={path} /></div>}
    </>
  );
}

interface RowProps extends Props {
  /** What is wrong with its parts is shown at the parts. */
  isShallow?: boolean;
  children?: ReactNode;
}

function Row({ name, schema, value, path, isRequired, isShallow = false, children }: RowProps) {
  const t = useT();
  const { root, problems, change } = useForm();
  const dotted = path.join(".");
  const kind = fieldOf(schema, root).kind;
  const hasParts = kind === "object" || kind === "union" || kind === "list";
  const wrong = problemsAt(problems, path, { deep: !hasParts && !isShallow });
  const hasChanged = isChanged(schema, value);
  return (
    <div className="schema-row" data-changed={hasChanged} data-field={dotted}>
      <Tooltip title={resolved(schema, root).description} placement="topLeft">
        <span className="schema-name">{name}{isRequired && <i aria-label={t("form.required")}>*</i>}</span>
      </Tooltip>
      <div className="schema-value">
        {children}
        {wrong.map((problem) => (
          <div key={problem.path + problem.message} className="schema-problem" role="alert" data-testid={`problem-${problem.path}`}>
            {problem.path !== dotted && <code>{problem.path.slice(dotted.length + 1)} </code>}
            {problem.message}
          </div>
        ))}
      </div>
      {hasChanged && (
        <Tooltip title={t("form.reset", { value: shown(schema.default) })}>
          <Button size="small" type="text" icon={<UndoOutlined />} aria-label={`${t("form.reset", { value: shown(schema.default) })}: ${dotted}`} onClick={() => change([{ path, value: undefined }])} data-testid={`reset-${dotted}`} />
        </Tooltip>
      )}
    </div>
  );
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
