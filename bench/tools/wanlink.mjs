/**
 * A wide-area link in user space, between local endpoints: delay, shared rates and faults where the kernel has no netem.
 *
 *     node wanlink.mjs --listen 127.0.0.1:7000 --to 127.0.0.1:6000 --rtt 68 --down 50 --up 10
 *     node wanlink.mjs --listen unix:/tmp/far.sock --to unix:/tmp/near.sock --rtt 68 --down 50
 *     node wanlink.mjs --listen 127.0.0.1:7000 --to 127.0.0.1:6000 --listen 127.0.0.1:7001 --to 127.0.0.1:6001 --rtt 68
 *
 *     --listen/--to  host:port or unix:PATH; every connection accepted at --listen is carried to --to; several pairs, in
 *                    order, are several far ends behind one home line: they share its rates
 *     --rtt          round-trip time in ms (half is added to each direction, and a whole one to the connect)
 *     --down/--up    rate in Mbit/s from --to towards --listen, and back (0 = unlimited); one bucket is shared
 *                    by all connections of the link, as on a home line
 *     --drop-after   close every connection after this many bytes came down (0 = never): a mid-transfer fault
 *     --stall-after  stop delivering (without closing) after this many bytes came down (0 = never)
 *
 * On SIGINT or SIGTERM, and on SIGUSR2 without leaving, it prints one line of JSON: {connections, downBytes, upBytes}.
 */
import net from 'node:net'
import { parseArgs } from 'node:util'

const { values: o } = parseArgs({
  options: {
    listen: { type: 'string', multiple: true },
    to: { type: 'string', multiple: true },
    rtt: { type: 'string', default: '0' },
    down: { type: 'string', default: '0' },
    up: { type: 'string', default: '0' },
    'drop-after': { type: 'string', default: '0' },
    'stall-after': { type: 'string', default: '0' }
  }
})
if (!o.listen || o.listen.length !== o.to?.length) {
  console.error('wanlink: --listen and --to are needed, in pairs')
  process.exit(2)
}
const where = s => {
  if (s.startsWith('unix:')) return { path: s.slice(5) }
  const i = s.lastIndexOf(':')
  return { host: s.slice(0, i), port: Number(s.slice(i + 1)) }
}
const oneWay = Number(o.rtt) / 2
const dropAfter = Number(o['drop-after'])
const stallAfter = Number(o['stall-after'])
const receiveWindow = 1 << 20 // bytes delivered but not yet taken by the receiver, past its kernel's own buffers
const END = Symbol('end')
const CLOSE = Symbol('close')
const stats = { connections: 0, downBytes: 0, upBytes: 0 }

// One direction of the link: bytes leave the bucket at `rate`, then take `oneWay` ms to arrive.
class Lane {
  constructor(mbit) {
    this.bytesPerMs = (Number(mbit) * 1e6) / 8 / 1e3
    this.freeAt = 0
    this.held = new Map()
    this.timer = null
  }
  // When do `n` bytes that enter now arrive, in ms since the process started?
  arrival(n) {
    const now = performance.now()
    if (this.bytesPerMs === 0) return now + oneWay
    this.freeAt = Math.max(this.freeAt, now) + n / this.bytesPerMs
    return this.freeAt + oneWay
  }
  get backlogMs() {
    return Math.max(0, this.freeAt - performance.now())
  }
  // Stops reading `from` while the lane is full or `to` has not taken what it was given. The lane wakes its
  // connections itself, all at once: one whose own packets were all delivered while others kept the lane full has
  // nothing of its own left to wake it.
  push(from, to) {
    if (this.backlogMs <= 80 && to.writableLength <= receiveWindow) return // 80 ms: about a router's buffer
    from.pause()
    this.held.set(from, to)
    this.watch()
  }
  watch() {
    if (this.timer !== null || this.held.size === 0) return
    this.timer = setTimeout(
      () => {
        this.timer = null
        if (this.backlogMs < 40) {
          for (const [from, to] of this.held) {
            if (to.writableLength > receiveWindow && !to.destroyed) continue
            this.held.delete(from)
            from.resume()
          }
        }
        this.watch()
      },
      Math.max(4, this.backlogMs - 40)
    )
  }
}
const lanes = { down: new Lane(o.down), up: new Lane(o.up) }

function carry(from, to, lane, count) {
  const queue = []
  let timer = null
  const deliver = () => {
    timer = null
    while (queue.length > 0 && queue[0].at <= performance.now() + 0.3) {
      const { data } = queue.shift()
      if (to.destroyed) continue
      if (data === END) to.end()
      else if (data === CLOSE) to.destroySoon()
      else to.write(data)
    }
    arm()
  }
  const arm = () => {
    if (timer === null && queue.length > 0) timer = setTimeout(deliver, Math.max(0, queue[0].at - performance.now()))
  }
  const enter = (data, n) => {
    queue.push({ at: lane.arrival(n), data })
    arm()
  }
  from.on('data', d => {
    if (!count(d.length)) return
    // cut into packets, so that a large write trickles in as it would on a line
    for (let i = 0; i < d.length; i += 16384) {
      const part = d.subarray(i, i + 16384)
      enter(part, part.length)
    }
    lane.push(from, to)
  })
  // an end and a close travel behind the data that was sent before them
  from.on('end', () => enter(END, 0))
  from.on('close', () => enter(CLOSE, 0))
}

const serve = (listen, to) =>
  new Promise(resolve => {
    const server = net.createServer({ allowHalfOpen: true }, near => accept(near, to))
    server.on('error', e => {
      console.error(`wanlink: ${listen}: ${e.message}`)
      process.exit(1)
    })
    server.listen(where(listen), resolve)
  })

function accept(near, to) {
  stats.connections++
  let down = 0
  near.pause()
  near.on('error', () => {})
  setTimeout(() => {
    const far = net.connect({ ...where(to), allowHalfOpen: true })
    if (far.setNoDelay) {
      far.setNoDelay(true)
      near.setNoDelay?.(true)
    }
    const close = () => {
      near.destroy()
      far.destroy()
    }
    far.on('error', () => {})
    carry(near, far, lanes.up, n => {
      stats.upBytes += n
      return true
    })
    carry(far, near, lanes.down, n => {
      stats.downBytes += n
      down += n
      if (dropAfter > 0 && down > dropAfter) {
        close()
        return false
      }
      return !(stallAfter > 0 && down > stallAfter)
    })
    if (near.destroyed) far.destroy()
    else near.resume()
  }, Number(o.rtt))
}

await Promise.all(o.listen.map((listen, i) => serve(listen, o.to[i])))
console.log(
  `wanlink ready ${o.listen.map((l, i) => `${l} -> ${o.to[i]}`).join(', ')} rtt ${o.rtt} ms down ${o.down} up ${o.up} Mbit/s`
)
const report = () => console.log(JSON.stringify(stats))
process.on('SIGUSR2', report)
for (const s of ['SIGINT', 'SIGTERM'])
  process.on(s, () => {
    report()
    process.exit(0)
  })
