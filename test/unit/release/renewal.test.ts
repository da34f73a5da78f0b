import { describe, expect, test } from 'vitest'
import { CLOCK_SKEW_MS } from '../../../src/directory/limits.ts'
import { Renewal } from '../../../src/release/renewal.ts'

const ME = '12D3KooWKzFkcM1ZNfbGmYEdN6TUGP8uqC16vAkwGsYroH4QZGfU'
const ANOTHER = '12D3KooWJADane8vn47goT7LEGJAaggEXyq3935EB5SGbE1skCo4'
const HOUR_MS = 60 * 60 * 1000
const TTL_MS = 30 * HOUR_MS
/** A third of the life of a record. */
const DUE_MS = TTL_MS / 3

const mine = (name: string) => `${ME}/${name}`
/** As a test names it. */
const short = (appliance: string) => appliance.replace(ME, 'me')

interface Known {
  appliance: string
  issuedMs: number
  delegation: Buffer
  digest: string
  sequence: number
  releases: { version: string }[]
  channels: unknown[]
}

/** Records of one publisher as this host has them, and as the directory does; what was signed and put. */
function setUp(own: Partial<Known>[], elsewhere: Record<string, Partial<Known>> = {}) {
  const make = (record: Partial<Known>): Known => ({
    appliance: mine('grid'),
    issuedMs: 0,
    delegation: Buffer.from('now'),
    digest: 'mine',
    sequence: 1,
    releases: [{ version: 'v1' }],
    channels: [],
    ...record
  })
  const records = new Map(own.map(record => [make(record).appliance, make(record)]))
  const newest = new Map(records)
  const done: string[] = []
  const warnings: { message: string; values: Record<string, unknown> | undefined }[] = []
  const timers: { delayMs: number; run: () => void; cancelled: boolean }[] = []
  const state = { nowMs: 0, fails: '' }
  const renewal = new Renewal(
    {
      keys: { publisher: ME, signing: async () => ({ delegation: Buffer.from('now') }) },
      own: { all: () => [...records.values()], get: (appliance: string) => records.get(appliance) },
      issuer: {
        newestKnown: async (appliance: string) => newest.get(appliance),
        learnNewest: async (appliance: string) => {
          if (state.fails === appliance) throw new Error('nobody answers')
          const found = elsewhere[appliance]
          if (found !== undefined) newest.set(appliance, make({ appliance, ...found }))
        },
        issue: async (appliance: string, releases: { version: string }[]) => {
          done.push(`issue ${short(appliance)} ${releases.map(({ version }) => version)}`)
          return make({ appliance })
        },
        keep: async (record: Known) => {
          done.push(`keep ${short(record.appliance)}`)
          return record
        },
        put: async ({ appliance }: Known) => {
          done.push(`put ${short(appliance)}`)
        }
      },
      inTurn: (_appliance: string, change: () => Promise<unknown>) => change(),
      clock: {
        now: () => state.nowMs,
        after: (delayMs: number, run: () => void) => {
          const timer = { delayMs, run, cancelled: false }
          timers.push(timer)
          return {
            cancel: () => {
              timer.cancelled = true
            }
          }
        }
      },
      log: {
        debug: () => {},
        info: () => {},
        warn: (message: string, values?: Record<string, unknown>) => warnings.push({ message, values })
      }
    } as never,
    { latestTtlMs: TTL_MS }
  )
  return { renewal, done, warnings, timers, state }
}

const turn = () => new Promise(resolve => setImmediate(resolve))

describe('Renewal', () => {
  test('signs and puts again what is as old as a third of its life, and leaves the rest alone', async () => {
    const { renewal, done } = setUp([
      { appliance: mine('old'), issuedMs: 0 },
      { appliance: mine('young'), issuedMs: 1 }
    ])
    expect(await renewal.renewDue(DUE_MS)).toBe(1)
    expect(done).toEqual(['issue me/old v1', 'put me/old'])
  })

  test('a record under another delegation is due at once, and one from the future, which holders refuse', async () => {
    const { renewal, done } = setUp([
      { appliance: mine('delegated'), delegation: Buffer.from('before') },
      { appliance: mine('future'), issuedMs: CLOCK_SKEW_MS + 2 },
      { appliance: mine('soon'), issuedMs: CLOCK_SKEW_MS }
    ])
    expect(await renewal.renewDue(1)).toBe(2)
    expect(done.filter(what => what.startsWith('issue'))).toEqual(['issue me/delegated v1', 'issue me/future v1'])
  })

  test('what another host has released is taken over and told, and kept as it is where it is not due', async () => {
    const releases = [{ version: 'v1' }, { version: 'v2' }]
    const others = {
      [mine('due')]: { digest: 'other', sequence: 7, releases },
      [mine('fresh')]: { digest: 'other', issuedMs: DUE_MS, releases }
    }
    const { renewal, done, warnings } = setUp([{ appliance: mine('due') }, { appliance: mine('fresh') }], others)
    expect(await renewal.renewDue(DUE_MS)).toBe(2)
    expect(done).toEqual(['issue me/due v1,v2', 'put me/due', 'keep me/fresh', 'put me/fresh'])
    expect(warnings.map(({ values }) => values)).toMatchObject([
      { appliance: mine('due'), sequence: 7, versions: ['v2'] },
      { appliance: mine('fresh'), versions: ['v2'] }
    ])
  })

  test('appliances of a root key that was replaced are not signed, and one that fails keeps no other from it', async () => {
    const { renewal, done, warnings, state } = setUp([
      { appliance: `${ANOTHER}/grid` },
      { appliance: mine('broken') },
      { appliance: mine('grid') }
    ])
    state.fails = mine('broken')
    expect(await renewal.renewDue(DUE_MS)).toBe(1)
    expect(done).toEqual(['issue me/grid v1', 'put me/grid'])
    expect(warnings).toHaveLength(1)
  })

  test('looks at once when it starts, some times between two renewals, and not once it is stopped', async () => {
    const { renewal, done, timers, state } = setUp([{}])
    state.nowMs = DUE_MS
    renewal.start()
    await turn()
    expect(done).toContain('put me/grid')
    expect(timers.map(({ delayMs }) => delayMs)).toEqual([DUE_MS / 8])
    timers[0]!.run()
    await turn()
    expect(timers).toHaveLength(2)
    renewal.stop()
    expect(timers[1]!.cancelled).toBe(true)
    expect(await renewal.renewDue(DUE_MS * 2)).toBe(0)
  })
})
