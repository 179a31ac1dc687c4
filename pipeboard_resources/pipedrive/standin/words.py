"""Words a Brazilian company is made of: names, streets, cities, products. Plain data, no logic."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    "Ana João Maria José Antônio Luís Márcia Patrícia Fábio Cláudia Sérgio Letícia Vinícius Júlia César Lúcia Flávio Mônica "
    "Rogério Débora Thaís Gonçalo Inês Ângela Estêvão Raíssa Caetano Yasmin Otávio Bárbara Heloísa Tomás Íris Ubiratã Nádia "
    "Conceição Iara Moacir Jurandir Zélia"
)

LAST_NAMES = _words(
    "Silva Souza Conceição Araújo Gonçalves Brandão Guimarães Magalhães Antunes Falcão Peçanha Simões Galvão Assunção "
    "Sepúlveda Vilaça Proença Leitão Bragança Tavares Moraes Cardoso D'Ávila Lacerda Nóbrega Queirós Rebouças Sampaio "
    "Teixeira Uchôa Valença Xavier Zampieri Müller Kowalski Nakamura Ferraço Paixão Sá Cação"
)

COMPANY_KINDS = _words(
    "Padaria Farmácia Construtora Transportadora Clínica Editora Confecções Agropecuária Metalúrgica Distribuidora Gráfica "
    "Cervejaria Imobiliária Escola Oficina Marcenaria Laboratório Cooperativa Livraria Pousada"
)

COMPANY_NAMES = (
    "São Jorge",
    "Três Irmãos",
    "Boa Esperança",
    "Ipê Amarelo",
    "Pão & Cia",
    "Maré Alta",
    "Sertão Verde",
    "Céu Azul",
    "Nossa Senhora da Conceição",
    "Coração do Vale",
    "Aurora",
    "Índigo",
    "Água Viva",
    "Capivara",
    "Paraná Sul",
    "Açaí do Norte",
    "Estação Central",
    "União",
    "Girassol",
    "Além-Mar",
)

COMPANY_FORMS = ("Ltda.", "S.A.", "EIRELI", "ME", "& Filhos", "Ltda. - EPP")

CITIES = (
    ("São Paulo", "SP", "01310-100"),
    ("Rio de Janeiro", "RJ", "20040-002"),
    ("Belo Horizonte", "MG", "30130-005"),
    ("Florianópolis", "SC", "88010-400"),
    ("Brasília", "DF", "70040-010"),
    ("Goiânia", "GO", "74003-010"),
    ("Belém", "PA", "66010-000"),
    ("Maceió", "AL", "57020-000"),
    ("São Luís", "MA", "65010-000"),
    ("Vitória", "ES", "29010-000"),
    ("João Pessoa", "PB", "58010-000"),
    ("Curitiba", "PR", "80010-000"),
)

STREETS = (
    "Rua das Acácias",
    "Avenida São João",
    "Travessa do Comércio",
    "Praça da República",
    "Rua Sete de Setembro",
    "Alameda dos Ipês",
    "Rodovia BR-101",
    "Rua Conceição",
    "Largo do Machado",
    "Avenida Brasília",
)

DISTRICTS = ("Centro", "Jardim América", "Vila Mariana", "Água Branca", "São Cristóvão", "Santa Efigênia")

OFFERS = (
    "Implantação do sistema",
    "Renovação anual",
    "Consultoria tributária",
    "Licenças adicionais",
    "Projeto de automação",
    "Manutenção preventiva",
    "Treinamento de equipe",
    "Migração de dados",
    "Expansão para filiais",
    "Assinatura básica",
)

LOST_REASONS = (
    "Preço",
    "Concorrência",
    "Sem orçamento",
    "Não respondeu",
    "Adiado para o próximo ano",
    "Solução própria",
)

JOB_TITLES = ("Diretora", "Sócio", "Gerente de compras", "Analista", "Coordenadora de operações", "Estagiário", "CEO")

SUBJECTS = (
    "Ligar para confirmar proposta",
    "Reunião de apresentação",
    "Enviar orçamento",
    "Almoço com o cliente",
    "Cobrar retorno",
    "Visita técnica",
    "Revisar contrato",
    "Pós-venda",
)

PHRASES = (
    "Cliente pediu prazo até sexta-feira.",
    "Aguardando aprovação da diretoria.",
    "Não há previsão de orçamento.",
    "Indicação do João, conhece bem o produto.",
    "Prefere contato à tarde.",
    "Atenção: condições especiais já combinadas.",
)

# Text that breaks careless loaders: COPY escapes, quotes, line ends, emoji with joiners, right-to-left, JSON and SQL look-alikes.
ODD_TEXTS = (
    "\\N",
    "Ele disse: \"não\" e 'talvez'",
    "C:\\pasta\\nova\\tabela",
    "primeira linha\nsegunda linha\r\nterceira\tcom tab",
    "👩‍👩‍👧‍👦 família 🇧🇷 🔥",
    "",
    "   espaços   ",
    "NULL",
    "null",
    "{}",
    '{"a": [1, 2]}',
    "'; DROP TABLE deals; --",
    "مرحبا بالعالم",
    "日本語テキスト",
    "e\u0301 decomposto, é composto",
    "\\.",
    "linha\u2028separada\u0085aqui",
    "\ufefftexto com BOM",
    '100%;,|"\\',
    "0000-00-00",
)
