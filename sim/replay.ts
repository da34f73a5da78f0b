/**
 * Repeats one run of a scenario and tells what happened: `node sim/replay.ts SCENARIO SEED [--polls]`.
 */
import { parseArgs } from 'node:util'
import { runScenario, SCENARIOS, type ScenarioName, settingsOf } from './scenarios.ts'

const { positionals, values } = parseArgs({ allowPositionals: true, options: { polls: { type: 'boolean' } } })
const name = SCENARIOS.find(scenario => scenario === positionals[0])
const seed = Number(positionals[1])
if (name === undefined || !Number.isSafeInteger(seed)) {
  console.error(`node sim/replay.ts ${SCENARIOS.join('|')} SEED [--polls]`)
  process.exitCode = 2
} else {
  replay(name, seed)
}

function replay(scenario: ScenarioName, seed: number): void {
  console.log(settingsOf(scenario, seed))
  const fates = runScenario(scenario, seed, (now, what) => {
    if (values.polls || !what.includes(' polled: '))
      console.log(`${(now / 3_600_000).toFixed(2).padStart(8)} h  ${what}`)
  })
  for (const fate of fates) console.log(fate)
}
