import styles from "./DrawLayer.module.css";
import type { DrawingTools } from "./useDrawing";

/** What was drawn, over the picture and in its pixels. */
export function DrawLayer({ drawing, active }: { drawing: DrawingTools; active: boolean }) {
  const { width, height, corners, canvas, cursor, radius } = drawing;
  const dot = Math.max(width, height) / 160;
  return (
    <>
      <canvas ref={canvas} className={styles["layer"]} width={width} height={height} data-testid="mask" aria-hidden="true" />
      {active && (
        <svg className={styles["layer"]} viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
          {corners.length > 0 && (
            <>
              <polyline className={styles["under"]} points={corners.map((one) => one.join()).join(" ")} />
              <polyline className={styles["edge"]} points={corners.map((one) => one.join()).join(" ")} />
              {corners.map(([x, y], index) => (
                <circle key={`${index} ${x} ${y}`} className={styles["corner"]} cx={x} cy={y} r={dot} />
              ))}
            </>
          )}
          <circle ref={cursor} className={styles["cursor"]} r={radius} visibility="hidden" />
        </svg>
      )}
    </>
  );
}
