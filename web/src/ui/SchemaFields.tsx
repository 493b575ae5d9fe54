import { RightOutlined } from "@ant-design/icons";
import { useState } from "react";
import { useT } from "../app/i18n";
import { SchemaField } from "./SchemaField";
import { countChanged, isObject, type Path, type Schema } from "./schema";
import { problemsAt, useForm } from "./schemaContext";

interface Props {
  schema: Schema;
  value: unknown;
  path: Path;
  /** Fields that are shown elsewhere. */
  without?: string[];
}

/** The fields of an object, those that most people never touch folded. What is wrong with a folded one opens it. */
export function SchemaFields({ schema, value, path, without = [] }: Props) {
  const t = useT();
  const { root, problems } = useForm();
  const [isWanted, setWanted] = useState(false);
  const values = isObject(value) ? value : {};
  const all = Object.entries(schema.properties ?? {}).filter(([name]) => !without.includes(name));
  const advanced = all.filter(([, field]) => field.advanced);
  const numChanged = advanced.reduce((sum, [name, field]) => sum + countChanged(field, root, values[name]), 0);
  const isWrong = advanced.some(([name]) => problemsAt(problems, [...path, name], { deep: true }).length > 0);
  const isOpen = isWanted || isWrong;
  const shown = (fields: typeof all) =>
    fields.map(([name, field]) => (
      <SchemaField key={name} name={name} schema={field} value={values[name]} path={[...path, name]} isRequired={schema.required?.includes(name) ?? false} />
    ));
  return (
    <div className="schema-fields">
      {shown(all.filter(([, field]) => !field.advanced))}
      {advanced.length > 0 && (
        <button type="button" className="schema-more" aria-expanded={isOpen} onClick={() => setWanted(!isOpen)} data-testid={`advanced-${path.join(".")}`}>
          <RightOutlined rotate={isOpen ? 90 : 0} /> {t("form.advanced", { n: advanced.length })}
          {numChanged > 0 && <span className="schema-count">{t("form.changed", { n: numChanged })}</span>}
        </button>
      )}
      {isOpen && shown(advanced)}
    </div>
  );
}
