import { Empty, Typography } from "antd";
import type { ReactNode } from "react";

/** Says what belongs here and the one thing that makes the first one. */
export function EmptyState({ text, command, children }: { text: string; command?: string; children?: ReactNode }) {
  return (
    <Empty image={Empty.PRESENTED_IMAGE_SIMPLE} description={text}>
      {command && (
        <Typography.Paragraph copyable={{ text: command }} className="command">
          <code>{command}</code>
        </Typography.Paragraph>
      )}
      {children}
    </Empty>
  );
}
