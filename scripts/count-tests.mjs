/**
 * Prints the counts of a test run from vitest's JSON report, in one line: `N passed, N failed`.
 *
 *   node scripts/count-tests.mjs REPORT [--no-skips]
 *
 * With --no-skips a skipped interop or e2e test is named and counts as a failure of the run: where every tool is
 * installed nothing may be passed over. A file that could not even be loaded counts as one failed test. Exit status 1
 * when something failed, or when there is no report to read. Plain JavaScript: whatever Node the machine has runs it.
 */
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'

const [path, option] = process.argv.slice(2)
if (path === undefined) {
  console.error('usage: count-tests.mjs REPORT [--no-skips]')
  process.exit(2)
}

let report
try {
  report = JSON.parse(readFileSync(path, 'utf8'))
} catch (error) {
  console.log(`no report of the tests: ${error.message}`)
  console.log('0 passed, 1 failed')
  process.exit(1)
}

let passed = 0
let failed = 0
let skipped = 0
const complaints = []
for (const file of report.testResults) {
  const name = relative(process.cwd(), file.name)
  const before = failed
  for (const test of file.assertionResults) {
    if (test.status === 'passed') passed++
    else if (test.status === 'failed') failed++
    else {
      skipped++
      if (option === '--no-skips' && /^test\/(interop|e2e)\//.test(name)) {
        complaints.push(`skipped, and must not be here: ${name}: ${test.fullName}`)
      }
    }
  }
  if (file.status === 'failed' && failed === before) {
    failed++
    complaints.push(`failed as a whole: ${name}: ${file.message}`)
  }
}
if (passed + failed === 0) complaints.push('no test has run')
for (const complaint of complaints) console.log(complaint)
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
process.exit(failed > 0 || complaints.length > 0 ? 1 : 0)
