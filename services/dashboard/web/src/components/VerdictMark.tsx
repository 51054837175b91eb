import type { Verdict } from "../api/types";

interface Props {
  verdict: Verdict;
  size?: number;
  /** It lies on the verdict's own colour, so that its shape must be drawn in the other one. */
  onFill?: boolean;
}

/** The verdict's shape: a ring with a tick, a diamond with a question mark, a filled octagon with a cross. */
export function VerdictMark({ verdict, size = 20, onFill = false }: Props) {
  const common = { width: size, height: size, viewBox: "0 0 24 24", "aria-hidden": true, focusable: false } as const;
  if (verdict === "pass") {
    return (
      <svg {...common} fill="none" stroke="var(--pass)" strokeWidth="2.2" strokeLinecap="round" strokeLinejoin="round">
        <circle cx="12" cy="12" r="9.2" />
        <path d="M7.8 12.4l3 3 5.6-6" />
      </svg>
    );
  }
  if (verdict === "review") {
    const [shape, sign] = onFill ? ["#241900", "var(--review-fill)"] : ["var(--review-fill)", "#241900"];
    return (
      <svg {...common}>
        <path d="M12 .8 23.2 12 12 23.2.8 12z" fill={shape} />
        <path d="M9.4 9.6a2.7 2.7 0 1 1 4 2.4c-.9.5-1.4 1-1.4 2" fill="none" stroke={sign} strokeWidth="2.1"
          strokeLinecap="round" />
        <circle cx="12" cy="17" r="1.35" fill={sign} />
      </svg>
    );
  }
  const [shape, sign] = onFill ? ["#fff", "var(--fail-fill)"] : ["var(--fail-fill)", "#fff"];
  return (
    <svg {...common}>
      <path d="M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4z" fill={shape} />
      <path d="M8 8l8 8M16 8l-8 8" stroke={sign} strokeWidth="2.6" strokeLinecap="round" />
    </svg>
  );
}
