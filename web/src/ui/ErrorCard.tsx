import { Alert, Button } from "antd";
import { ApiError } from "../api/client";
import { useT } from "../app/i18n";

/** What went wrong, what to do about it, and the places. */
export function ErrorCard({ error, retry }: { error: unknown; retry?: () => void }) {
  const t = useT();
  const isUnreachable = error instanceof ApiError && error.status === 0;
  const message = isUnreachable ? t("error.unreachable") : error instanceof Error ? error.message : String(error);
  const problems = error instanceof ApiError ? error.problems : [];
  return (
    <Alert
      type="error"
      showIcon
      title={t("error.title")}
      description={
        <>
          <div>{message}</div>
          {problems.map((problem) => (
            <div key={`${problem.path}${problem.message}`}>
              <code>{problem.path}</code> {problem.message}
            </div>
          ))}
        </>
      }
      action={retry ? <Button onClick={retry}>{t("error.retry")}</Button> : undefined}
    />
  );
}
