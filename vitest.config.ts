import { defineConfig } from 'vitest/config'

const POLL_TIMEOUT_MS = 120_000

/** A test's time limit says nothing about speed: it ends what would go on for ever, and leaves time to a busy machine. */
const project = (name: string, testTimeoutMs: number, extra: object = {}) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: testTimeoutMs,
    hookTimeout: testTimeoutMs,
    expect: { poll: { timeout: POLL_TIMEOUT_MS } },
    ...extra
  }
})

/** Two cores and real clocks: suites that start processes or measure time run one file at a time. */
const oneFileAtATime = { fileParallelism: false, maxWorkers: 1 }

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      project('unit', 240_000),
      project('fuzz', 600_000),
      project('conformance', 300_000),
      project('interop', 600_000, oneFileAtATime),
      project('e2e', 900_000, oneFileAtATime)
    ]
  }
})
