/**
 * The rows of the wan bench about several volunteers of one home: a network of their own, and one line to the outside.
 *
 * Clients replay the recorded boot with its think times, all from the same moment on. They find each other by asking their network,
 * as at home; nobody tells them.
 */
import { type HomeLine, HomeNetwork } from '../../test/tools/home-network.ts'
import { Peer } from '../../test/tools/peers.ts'
import { HOME_LINE } from './boots.ts'
import { replay } from './replay.ts'
import type { Figure, Row, RowContext } from './rows.ts'

const CROWD = 8
const CROWD_LINE: HomeLine = { rttMs: 68, downMbit: 20 }
const PAIR = 2
const PUBLISH_TIMEOUT_MS = 300_000

export const HOME_ROWS: Row[] = [
  {
    name: 'pair',
    about: `${PAIR} volunteers behind one line replay the boot in lockstep, 2 replicas, ${describe(HOME_LINE)}`,
    async measure(context) {
      const { alone, all } = await aloneAndTogether(context, PAIR, HOME_LINE, 2)
      return [
        { name: 'bytes together ÷ alone', value: all.megabytes / alone.megabytes, atMost: 1.1, unit: '×' },
        ...figures(alone, all)
      ]
    }
  },
  {
    name: 'crowd',
    about: `${CROWD} volunteers replay the boot at once, one replica behind ${describe(CROWD_LINE)}, LAN between them`,
    async measure(context) {
      const { alone, all } = await aloneAndTogether(context, CROWD, CROWD_LINE, 1)
      return [
        { name: 'slowest ÷ alone', value: all.slowestSeconds / alone.slowestSeconds, atMost: 1.5, unit: '×' },
        ...figures(alone, all)
      ]
    }
  }
]

interface Together {
  size: number
  slowestSeconds: number
  megabytes: number
}

async function aloneAndTogether(
  { world, v1, trace }: RowContext,
  size: number,
  line: HomeLine,
  replicas: number
): Promise<{ alone: Together; all: Together }> {
  // Published on loopback: a recorded boot starts QEMU, which has its own needs of the network.
  const publisher = await Peer.start()
  await publisher.json(['publish', v1, 'grid@v1', ...world.publishArgs], { timeoutMs: PUBLISH_TIMEOUT_MS })
  await publisher.stop()
  const home = await HomeNetwork.build({ line, replicas, publisherHome: publisher.home })
  try {
    await home.complete('v1')
    const replayed = async (count: number): Promise<Together> => {
      const volunteers = await home.volunteers(count)
      const before = await home.crossed()
      const waits = await Promise.all(volunteers.map(peer => replay(peer, `${home.appliance}@v1`, trace)))
      const megabytes = ((await home.crossed()) - before) / 1e6
      await Promise.all(volunteers.map(peer => peer.stop()))
      return { size: count, slowestSeconds: Math.max(...waits), megabytes }
    }
    return { alone: await replayed(1), all: await replayed(size) }
  } finally {
    await home.stop()
  }
}

function figures(...sizes: Together[]): Figure[] {
  return sizes.flatMap(({ size, slowestSeconds, megabytes }) => [
    { name: `${size}: disk wait of the slowest`, value: slowestSeconds, unit: 's' },
    { name: `${size}: over the line`, value: megabytes, unit: 'MB' }
  ])
}

function describe({ rttMs, downMbit }: HomeLine): string {
  return `${rttMs} ms, ${downMbit} Mbit/s`
}
