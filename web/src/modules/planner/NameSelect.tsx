import { Select } from "antd";
import { useMemo, useState } from "react";
import { useT } from "../../app/i18n";

/** Before a typed name, so that it is not taken for the best match. */
const OWN = "=";

interface Props {
  label: string;
  testId: string;
  value: string;
  names: string[];
  isLoading: boolean;
  choose: (name: string) => void;
}

/** One of the known names, or another that is typed: the server knows more spellings than it lists. */
export function NameSelect({ label, testId, value, names, isLoading, choose }: Props) {
  const t = useT();
  const [search, setSearch] = useState("");
  const options = useMemo(() => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const found = names.filter((name) => words.every((word) => name.toLowerCase().includes(word)));
    const typed = search.trim();
    const isListed = names.some((name) => name.toLowerCase() === typed.toLowerCase());
    const own = typed !== "" && !isListed ? [{ value: OWN + typed, label: t("planner.useTyped", { name: typed }) }] : [];
    return [...found.map((name) => ({ value: name, label: name })), ...own];
  }, [names, search, t]);
  return (
    <Select
      size="small"
      className="plan-name-select"
      aria-label={label}
      data-testid={testId}
      value={value}
      loading={isLoading}
      labelRender={() => value}
      showSearch={{ searchValue: search, onSearch: setSearch, filterOption: false }}
      onChange={(name: string) => {
        setSearch("");
        choose(name.startsWith(OWN) ? name.slice(OWN.length) : name);
      }}
      popupMatchSelectWidth={360}
      options={options}
    />
  );
}
