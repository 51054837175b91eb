import { useEffect, useState } from "react";
import { pictureProblem } from "../api/client";
import type { Problem } from "../api/types";
import { hasMessage, useI18n } from "../i18n";
import { Icon } from "./Icon";
import styles from "./Picture.module.css";

const RETRY_MS = 4_000;

/** Why the picture at `url` does not show; keeps asking while it may come back. */
export function usePictureProblem(url: string, failed: boolean, onBack: () => void): Problem | null {
  const [problem, setProblem] = useState<{ url: string; problem: Problem } | null>(null);
  useEffect(() => {
    if (!failed) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = () => {
      pictureProblem(url, abort.signal)
        .then((found) => {
          if (found === null) return onBack();
          setProblem({ url, problem: found });
          if (["unavailable", "offline", "busy"].includes(found.reason)) timer = setTimeout(ask, RETRY_MS);
        })
        .catch(() => undefined);
    };
    ask();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [url, failed, onBack]);
  return failed && problem?.url === url ? problem.problem : null;
}

/** What stands in a picture's place when it cannot be shown. */
export function PictureNote({ problem, detail = "" }: { problem: Problem; detail?: string }) {
  const { t } = useI18n();
  const title = `picture.${problem.reason}`;
  const text = `picture.${problem.reason}.text`;
  const unreadable = problem.reason.startsWith("image_") && problem.reason !== "image_expired";
  return (
    <div className={styles["note"]} role="status">
      <Icon name="broken" size={28} />
      <strong>{hasMessage(title) ? t(title) : t("picture.unreadable")}</strong>
      {hasMessage(text) && <span>{t(text)}</span>}
      {unreadable && <span>{detail || problem.message}</span>}
    </div>
  );
}

/** A picture that says why when it cannot be shown. Give it `key={url}`. */
export function Picture({ url, alt, detail = "" }: { url: string; alt: string; detail?: string }) {
  const [failed, setFailed] = useState(false);
  const [attempt, setAttempt] = useState(0);
  const [back] = useState(() => () => {
    setFailed(false);
    setAttempt((count) => count + 1);
  });
  const problem = usePictureProblem(url, failed, back);
  return (
    <div className={styles["frame"]}>
      {!failed && <img key={attempt} src={url} alt={alt} decoding="async" draggable={false} onError={() => setFailed(true)} />}
      {problem && <PictureNote problem={problem} detail={detail} />}
    </div>
  );
}
