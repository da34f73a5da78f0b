import { defineConfig } from 'vitest/config'

const project = (name: string, testTimeoutMs: number, extra: object = {}) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: testTimeoutMs,
    hookTimeout: testTimeoutMs,
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
      project('unit', 30_000),
      project('fuzz', 120_000),
      project('conformance', 60_000),
      project('interop', 180_000, oneFileAtATime),
      project('e2e', 900_000, oneFileAtATime)
    ]
  }
})
