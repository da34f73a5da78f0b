/**
 * Counting sharers and collecting versions: what it costs and how right it is, with the real code in virtual time (sim/).
 *
 *     npm run bench -- directory [--sharers 1000000] [--seed 1] [--rounds 100] [--worlds 1000]
 *
 * Times are in units of the leases' TTL; a run with a million sharers takes about a minute and 1 GB of memory.
 * `--rounds` are the seeds of the estimate's error; a tenth of them are done with the largest number. `--worlds` are the
 * seeds of each row about collection; they take about 0.05 s each.
 */
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { dice } from '../sim/dice.ts'
import { RELEASE, Sharing } from '../sim/sharing.ts'
import { Holder } from '../src/directory/holder.ts'
import { DEFAULT_HOLDER_BYTES, MAX_LEASES_PER_KEY } from '../src/directory/limits.ts'
import { mergeSketches } from '../src/directory/sharer-sketch.ts'
import { collectionRows, type Row } from './lib/collection-rows.ts'
import { describeMachine, saveResults, table } from './lib/report.ts'

const TTL_MS = 30 * 60_000
const PEERS = 500
const NOW = 1_795_000_000_000

const { values: options } = parseArgs({
  options: {
    sharers: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '100' },
    worlds: { type: 'string', default: '1000' }
  }
})
const many = Number(options.sharers)
const seed = Number(options.seed)
const worlds = Number(options.worlds)

await main()

async function main(): Promise<void> {
  const machine = await describeMachine([])
  const startedMs = performance.now()
  const rows = [estimateError(), memory(), crashOfTheLast(), ...crowd(), churn(), ...collectionRows(worlds)]
  console.log(
    table([
      ['', 'goal', 'measured', ''],
      ...rows.map(row => [row.name, row.goal, row.measured, row.reached ? 'yes' : 'NO'])
    ])
  )
  const seconds = Math.round((performance.now() - startedMs) / 1000)
  console.log(`\n${seconds} s, ${Math.round(process.cpuUsage().user / 1e6)} s of them computing`)
  await saveResults('directory', { machine, seconds, sharers: many, seed, holders: 20, peers: PEERS, worlds, rows })
}

/** The 95th percentile of the relative error, and whether the count was exact, by number of sharers. */
function estimateError(): Row {
  const values: Record<string, { p95: number; exact: boolean }> = {}
  for (const count of [10, 100, 1000, MAX_LEASES_PER_KEY, 2000, 10_000, 100_000, many]) {
    const rounds = Math.max(5, Number(options.rounds) / (count >= many ? 10 : 1))
    const errors: number[] = []
    let exact = true
    for (let round = 0; round < rounds; round++) {
      const estimate = mergeSketches([filled(count, seed * 1000 + round).getSharers(RELEASE, NOW).found])
      exact &&= estimate.exact
      errors.push(Math.abs(estimate.count / count - 1))
    }
    values[count] = { p95: percentile(errors, 0.95), exact }
  }
  const small = Object.entries(values).filter(([count]) => Number(count) <= MAX_LEASES_PER_KEY)
  const worst = Math.max(...Object.values(values).map(({ p95 }) => p95))
  return {
    name: `estimate at 10 to ${many} sharers, p95 of the error`,
    goal: 'exact to 1,024, ≤ 7 % above',
    measured: `exact to ${small.filter(([, { exact, p95 }]) => exact && p95 === 0).at(-1)?.[0]}, ${percent(worst)}`,
    reached: worst <= 0.07 && small.every(([, { exact, p95 }]) => exact && p95 === 0),
    values
  }
}

/** Heap of a holder that all these came to. */
function memory(): Row {
  const [few, lots] = [2000, many].map(count => {
    const before = heapBytes()
    const holder = filled(count, seed)
    const bytes = heapBytes() - before
    if (holder.usage('sharers').records !== MAX_LEASES_PER_KEY) throw new Error('the holder is not full')
    return bytes
  }) as [number, number]
  return {
    name: `memory at a holder, 2,000 against ${many} sharers`,
    goal: '≤ 1.2×, under 1 MiB',
    measured: `${(lots / few).toFixed(2)}×, ${(Math.max(few, lots) / 2 ** 20).toFixed(2)} MiB`,
    reached: lots / few <= 1.2 && Math.max(few, lots) < 2 ** 20,
    values: { fewBytes: few, manyBytes: lots }
  }
}

function crashOfTheLast(): Row {
  const times: number[] = []
  for (let round = 0; round < 20; round++) {
    const world = new Sharing({ seed: seed + round, peers: PEERS, ttlMs: TTL_MS })
    world.join(200, TTL_MS / 3)
    world.pass(2 * TTL_MS)
    if (world.poll().count !== 200) throw new Error(`200 sharers are counted as ${world.poll().count}`)
    world.crash(0)
    const from = world.agenda.now
    while (world.poll().inUse) world.pass(TTL_MS / 100)
    times.push((world.agenda.now - from) / TTL_MS)
  }
  const longest = Math.max(...times)
  return {
    name: 'count back to 0 after the last sharer crashed',
    goal: '≤ 1.33 TTL',
    measured: `${longest.toFixed(2)} TTL`,
    reached: longest <= 4 / 3,
    values: { ttls: times }
  }
}

/** A crowd that comes within a TTL, stays, and shrinks to 500. */
function crowd(): Row[] {
  const world = new Sharing({ seed, peers: PEERS, ttlMs: TTL_MS })
  world.join(many, TTL_MS)
  world.pass(3 * TTL_MS)
  world.takeTraffic()
  world.pass(TTL_MS)
  const traffic = world.takeTraffic()
  const renewals = Math.max(...traffic.map(each => each.renewals))
  const questions = Math.max(...traffic.map(each => each.questions))
  const before = world.poll()
  const left = 500
  world.crash(left)
  let unusedMs = 0
  let exactAfter: number | undefined
  const step = TTL_MS / 60
  const counts: { ttls: number; count: number; exact: boolean; inUse: boolean }[] = []
  for (let at = step; at <= 3 * TTL_MS; at += step) {
    world.pass(step)
    const { count, exact, inUse } = world.poll()
    counts.push({ ttls: at / TTL_MS, count, exact, inUse })
    if (!inUse) unusedMs += step
    if (!exact || count !== left) exactAfter = undefined
    else exactAfter ??= at / TTL_MS
  }
  return [
    {
      name: `renewals reaching one holder in a TTL at ${many} sharers`,
      goal: '≤ 10,000',
      measured: `${renewals}; ${questions} questions`,
      reached: renewals <= 10_000,
      values: { renewals, questions, count: before.count, exact: before.exact }
    },
    {
      name: `${many} sharers falling to ${left} at once`,
      goal: 'never unused; exact within 2 TTL',
      measured: `${unusedMs === 0 ? 'never unused' : `unused for ${unusedMs} ms`}; exact after ${exactAfter?.toFixed(2)} TTL`,
      reached: unusedMs === 0 && exactAfter !== undefined && exactAfter <= 2,
      values: { unusedMs, exactAfterTtls: exactAfter ?? null, counts }
    }
  ]
}

/** Most of the holders are replaced within a minute: how soon the new ones know all. */
function churn(): Row {
  const times: number[] = []
  for (let round = 0; round < 20; round++) {
    const world = new Sharing({ seed: seed + round, peers: PEERS, ttlMs: TTL_MS })
    world.join(300, TTL_MS / 3)
    world.pass(2 * TTL_MS)
    for (const { peer } of world.circle.slice(0, 15)) world.overlay.leave(peer)
    const from = world.agenda.now
    const know = () => world.circle.every(({ peer }) => sharersAt(world, peer) === 300)
    while (!know()) world.pass(TTL_MS / 100)
    times.push((world.agenda.now - from) / TTL_MS)
  }
  const longest = Math.max(...times)
  return {
    name: '15 of 20 holders replaced: all leases at all holders again',
    goal: 'one renewal (0.37 TTL)',
    measured: `${longest.toFixed(2)} TTL`,
    reached: longest <= 1.1 / 3 + 0.01,
    values: { ttls: times }
  }
}

function sharersAt(world: Sharing, peer: string): number {
  const { found } = world.holder(peer).getSharers(RELEASE, NOW + world.agenda.now)
  return found.hashes.length
}

/** A holder that leases of so many sharers came to, once each. */
function filled(count: number, roundSeed: number): Holder {
  const random = dice(roundSeed)
  const holder = new Holder({ random }, { quotaBytes: DEFAULT_HOLDER_BYTES })
  for (let i = 0; i < count; i++) {
    // As long as a real pseudonym.
    const signer = `12D3KooW${String(i).padStart(44, '0')}`
    const times = { sequence: NOW, issuedMs: NOW, runningUntilMs: NOW + TTL_MS, keepUntilMs: 0 }
    holder.put({ table: 'sharers', key: RELEASE, signer, hash: random.unit(), ...times, givenBack: false }, NOW)
  }
  return holder
}

function heapBytes(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  collect()
  return process.memoryUsage().heapUsed
}

function percentile(values: number[], part: number): number {
  return values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(part * values.length))]!
}

function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`
}
