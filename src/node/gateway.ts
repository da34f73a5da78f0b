/**
 * A home router that gives ports away: the part of UPnP's Internet Gateway Device (versions 1 and 2) that is needed here.
 *
 * A router tells in a description (XML) at which of its paths it takes orders (SOAP, which is XML over HTTP). Of both only a few names are
 * looked for, and everything is bounded: answers, waits, and whom is called, which is nobody but the host that has answered the search
 * (gateway-search.ts): no redirection, no other host in the description.
 */
import { request } from 'node:http'
import { asRowanError, RowanError } from '../errors.ts'

const MAX_ANSWER_BYTES = 128 * 1024
const ANSWER_TIMEOUT_MS = 5_000
const SERVICE = /^urn:schemas-upnp-org:service:(?:WANIPConnection:[12]|WANPPPConnection:1)$/
const DESCRIPTION = 'rowan'

/** Faults that say more than no. */
const PORT_TAKEN = 718

export interface Mapping {
  /** Of this host. */
  host: string
  port: number
  /** What the router sees the Internet call. */
  externalPort: number
  leaseSeconds: number
}

interface Call {
  /** Ends the wait for the router. */
  signal: AbortSignal
}

/** A router has refused. */
class Fault extends RowanError {
  readonly fault: number

  constructor(fault: number, action: string) {
    super('GATEWAY_REFUSED', `the router refuses ${action}: fault ${fault}`)
    this.fault = fault
  }

  get isTaken(): boolean {
    return this.fault === PORT_TAKEN
  }
}

export class Gateway {
  readonly #control: URL
  readonly #service: string

  private constructor(control: URL, service: string) {
    this.#control = control
    this.#service = service
  }

  /**
   * Reads what a router says of itself.
   *
   * @throws GATEWAY_REFUSED where it gives no ports away, or is no router; TIMEOUT_RESPONSE
   */
  static async open(location: URL, options: Call): Promise<Gateway> {
    const description = await exchange(location, { method: 'GET' }, options)
    for (const [, service = ''] of description.body.matchAll(/<service>([\s\S]*?)<\/service>/g)) {
      const type = textOf(service, 'serviceType') ?? ''
      const path = textOf(service, 'controlURL') ?? ''
      if (!SERVICE.test(type) || !URL.canParse(path, location.href)) continue
      const control = new URL(path, location)
      if (control.protocol === 'http:' && control.hostname === location.hostname) return new Gateway(control, type)
    }
    throw new RowanError('GATEWAY_REFUSED', `what answers at ${location.host} gives no ports away`)
  }

  /** The address that the Internet sees. */
  async externalAddress(options: Call): Promise<string> {
    const answer = await this.#order('GetExternalIPAddress', {}, options)
    return textOf(answer, 'NewExternalIPAddress') ?? ''
  }

  /** Leads a port of the router to this host, for a time. @returns false when it is another's */
  async map({ host, port, externalPort, leaseSeconds }: Mapping, options: Call): Promise<boolean> {
    const values = {
      ...{ NewRemoteHost: '', NewExternalPort: externalPort, NewProtocol: 'TCP', NewInternalPort: port },
      ...{ NewInternalClient: host, NewEnabled: 1, NewPortMappingDescription: DESCRIPTION },
      NewLeaseDuration: leaseSeconds
    }
    try {
      await this.#order('AddPortMapping', values, options)
      return true
    } catch (error) {
      if (error instanceof Fault && error.isTaken) return false
      throw error
    }
  }

  async unmap(externalPort: number, options: Call): Promise<void> {
    const values = { NewRemoteHost: '', NewExternalPort: externalPort, NewProtocol: 'TCP' }
    await this.#order('DeletePortMapping', values, options)
  }

  async #order(action: string, values: Record<string, string | number>, options: Call): Promise<string> {
    const parts = Object.entries(values).map(([name, value]) => `<${name}>${value}</${name}>`)
    const order = `<u:${action} xmlns:u="${this.#service}">${parts.join('')}</u:${action}>`
    const message: Order = {
      method: 'POST',
      body: `<?xml version="1.0"?><s:Envelope ${ENVELOPE}><s:Body>${order}</s:Body></s:Envelope>`,
      headers: { 'content-type': 'text/xml; charset="utf-8"', soapaction: `"${this.#service}#${action}"` }
    }
    const { status, body } = await exchange(this.#control, message, options)
    if (status === 200) return body
    throw new Fault(Number(textOf(body, 'errorCode') ?? status), action)
  }
}

const ENVELOPE =
  'xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"'

/** What stands between the tags of this name, the first time. */
function textOf(xml: string, name: string): string | undefined {
  return new RegExp(`<(?:\\w+:)?${name}(?:\\s[^>]*)?>([^<]*)<`).exec(xml)?.[1]?.trim()
}

interface Order {
  method: 'GET' | 'POST'
  body?: string
  headers?: Record<string, string>
}

interface Answer {
  status: number
  body: string
}

function exchange(url: URL, { method, body, headers = {} }: Order, options: Call): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const late = new RowanError('TIMEOUT_RESPONSE', `the router at ${url.host} does not answer`)
    const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
    const call = request(url, {
      method,
      headers: { ...headers, ...length },
      signal: AbortSignal.any([options.signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)])
    })
    call.on('error', error => reject(error.name === 'AbortError' ? late : refused(error, url)))
    call.on('response', answer => {
      const chunks: Buffer[] = []
      let bytes = 0
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.byteLength
        chunks.push(chunk)
        if (bytes <= MAX_ANSWER_BYTES) return
        reject(new RowanError('GATEWAY_REFUSED', `the router at ${url.host} does not stop talking`))
        call.destroy()
      })
      answer.on('error', error => reject(error.name === 'AbortError' ? late : refused(error, url)))
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString() }))
    })
    call.end(body)
  })
}

function refused(error: Error, { host }: URL): RowanError {
  return asRowanError(error, 'GATEWAY_REFUSED', `the router at ${host} cannot be asked`)
}
