import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { useMemo, useState } from "react";
import { api, take } from "../../api/client";
import { useT } from "../../app/i18n";

const LIMIT = 1000;

interface Props {
  jobId: number;
  chosen: number | null;
  choose: (id: number | null) => void;
}

/** Picks another training run by name or number. */
export function OtherRun({ jobId, chosen, choose }: Props) {
  const t = useT();
  const [search, setSearch] = useState("");
  const [isOpen, setOpen] = useState(false);
  const found = useQuery({
    queryKey: ["compare-runs"],
    queryFn: () => take(api.GET("/api/jobs", { params: { query: { limit: LIMIT } } })),
    enabled: isOpen || chosen !== null,
  });
  const options = useMemo(() => {
    const runs = new Map((found.data?.jobs ?? []).filter((job) => job.kind === "train" && job.id !== jobId).map((job) => [job.id, `${job.name} #${job.id}`]));
    const typed = /^#?([1-9]\d{0,8})$/.exec(search.trim())?.[1];
    for (const id of [chosen, typed ? Number(typed) : null]) if (id !== null && id !== jobId && !runs.has(id)) runs.set(id, `#${id}`);
    return [...runs].map(([value, label]) => ({ value, label }));
  }, [found.data, jobId, chosen, search]);
  return (
    <Select<number>
      allowClear
      data-testid="gradient-with"
      aria-label={t("gradients.with")}
      placeholder={t("gradients.with")}
      value={chosen}
      onChange={(id: number | undefined) => choose(id ?? null)}
      onOpenChange={setOpen}
      options={options}
      showSearch={{ optionFilterProp: "label", searchValue: search, onSearch: setSearch }}
      loading={found.isFetching}
      style={{ width: 220 }}
    />
  );
}
